// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"

#define PROGRAMS 8

static const char usage[] =
	"usage: xdpbench -d OBJECTS [-p NAME=OBJECT ...] [-o CSV] [-r ROUNDS] [-c CPU] [-q "
	"SECONDS]\n"
	"                [-t TRAFFIC/LABEL] [-s] [-v]\n"
	"  -d  where floor.bpf.o and replay.bpf.o lie\n"
	"  -p  an object of the balancer to measure; again for variants of it, side by side\n"
	"  -q  how long to wait for the other processors to be idle; 0: take what comes\n"
	"  -t  only cases that match, such as 'tcp-*/*' (and the floors of their traffic)\n"
	"  -s  short: fewer packets, fewer floors\n"
	"  -v  show what comes out of each case\n"
	"  -r 0: only check that each case does what it says";

int main(int argc, char **argv)
{
	struct options options = { .csv = "xdp.csv", .rounds = 15, .cpu = 1, .patience = 30 };
	char *programs[PROGRAMS], *object;
	int program_count = 0, o, i;

	while ((o = getopt(argc, argv, "d:p:o:r:c:q:t:sv")) != -1) {
		switch (o) {
		case 'd': options.objects = optarg; break;
		case 'o': options.csv = optarg; break;
		case 'r': options.rounds = atoi(optarg); break;
		case 'c': options.cpu = atoi(optarg); break;
		case 'q': options.patience = atoi(optarg); break;
		case 't': options.only = optarg; break;
		case 's': options.quick = true; break;
		case 'v': options.verbose = true; break;
		case 'p':
			if (program_count == PROGRAMS || !strchr(optarg, '='))
				die("%s", usage);
			programs[program_count++] = optarg;
			break;
		default: die("%s", usage);
		}
	}
	if (!options.objects)
		die("%s", usage);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	harness_open(&options);
	kernlb_wants(&options);
	floor_cases(&options);
	for (i = 0; i < program_count; i++) {
		object = strchr(programs[i], '=');
		*object++ = 0;
		kernlb_cases(&options, programs[i], object);
	}
	if (!check_cases(options.verbose))
		die("a program did not do what its case wants");
	run_cases(&options);
	return 0;
}
