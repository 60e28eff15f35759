/* SPDX-License-Identifier: Apache-2.0 */
/* What floor.bpf.c and the harness both know. */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <linux/types.h>

#define FLOOR_RING 65536
#define FLOOR_BACKENDS 4096
#define FLOOR_NO_CONNECTION 1u /* flag of a VIP: stateless */

struct floor_vip_key {
	__be32 addr;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

struct floor_vip6_key {
	__be32 addr[4];
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

struct floor_vip {
	__u32 id;
	__u32 flags;
};

struct floor_flow {
	__be32 saddr, daddr;
	__be16 sport, dport;
	__u32 protocol;
};

struct floor_flow6 {
	__be32 saddr[4], daddr[4];
	__be16 sport, dport;
	__u32 protocol;
};

struct floor_conn {
	__u32 backend;
	__u32 vip; /* nat: whom the answers seem to come from */
};

struct floor_backend {
	__be32 addr[4], local[4]; /* IPv4 uses the first word */
	__u32 sum;		  /* IPv4: ones' complement sum of both */
	__u8 mac[6];
	__be16 port; /* nat */
};

struct floor_count {
	__u64 packets, bytes;
};

#endif
