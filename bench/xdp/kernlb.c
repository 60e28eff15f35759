// SPDX-License-Identifier: Apache-2.0
#include "cases.h"
void kernlb_wants(const struct options *options)
{
	int i;
	for (i = 0; i < KINDS; i++)
		needed[i] = is_wanted(options, i, "");
}
void kernlb_cases(const struct options *options, const char *target, const char *object) {}
