/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * csum.h - Internet checksums by difference (RFC 1624): what changed is added, the rest unread.
 *
 * Sums are of words as they lie in memory, so byte order never matters; they gather in 64 bits
 * and are folded once.
 */
#ifndef KERNLB_CSUM_H
#define KERNLB_CSUM_H

static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The difference that a replaced word makes; differences are added up. */
static __always_inline __u64 csum_diff32(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline __u64 csum_diff16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

static __always_inline __u16 csum_update(__u16 check, __u64 diff)
{
	return ~csum_fold((__u16)~check + diff);
}

/* UDP: 0 says that there is none, so a sum that comes out as 0 is sent as its equal. */
static __always_inline __u16 csum_update_udp(__u16 check, __u64 diff)
{
	if (!check)
		return 0;
	check = csum_update(check, diff);
	return check ? check : 0xffff;
}

#endif
