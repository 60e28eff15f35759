/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - what the program and the control plane both read: the values of the maps.
 *
 * kernlb/datapath/xdp/layout.py is its mirror; a test holds one to the other through BTF.  Any
 * change of a size, an offset or a meaning here is a new ABI_VERSION: a daemon refuses maps of
 * another version, or migrates them, and never half-loads.
 *
 * Addresses and ports are in network byte order, as packets have them; an IPv4 address is the
 * first word of four and the rest is zero.  Times are ticks of 2^TICK_SHIFT ns of the monotonic
 * clock (67 ms), which fit 32 bits for nine years of uptime.
 */
#ifndef KERNLB_ABI_H
#define KERNLB_ABI_H

#include <linux/types.h>

#define ABI_VERSION 1

#define TICK_SHIFT 26
#define FILTER_SIZE 65536
#define SOURCE_PORT_FIRST 1024 /* of fullnat; up to 65535 */
#define CONN_WAYS 4	       /* entries a bucket */
#define TEMPLATE_PROTOCOL 0x40 /* a template's entry: this beside its protocol */
#define NONE 0xffffffffu       /* no service, no server, no connection */

enum family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

enum forwarding {
	FORWARD_DSR,	 /* the Ethernet addresses */
	FORWARD_TUNNEL,	 /* an outer header */
	FORWARD_NAT,	 /* destination address and port, undone on the way back */
	FORWARD_FULLNAT, /* source address and port as well */
};

enum tunnel {
	TUNNEL_IPIP, /* any family in any family */
	TUNNEL_GUE,
	TUNNEL_GRE,
};

enum scheduler {
	SCHEDULE_RR,
	SCHEDULE_WRR,
	SCHEDULE_LC,
	SCHEDULE_WLC,
	SCHEDULE_SH,
	SCHEDULE_MH,
};

enum service_flag {
	SERVICE_ALIVE = 1 << 0,
	SERVICE_ONE_PACKET = 1 << 1,  /* UDP: every packet is scheduled by itself */
	SERVICE_HASH_PORT = 1 << 2,   /* sh, mh: by client port too */
	SERVICE_FALLBACK = 1 << 3,    /* sh, mh: another server where the slot's cannot take it */
	SERVICE_PERSISTENT = 1 << 4,
};

enum server_flag {
	SERVER_ALIVE = 1 << 0,
	SERVER_HOP_KNOWN = 1 << 2, /* `hop` is true; else the kernel's FIB is asked each time */
};

/* IPVS's states and timeouts (net/netfilter/ipvs/ip_vs_proto_tcp.c, _udp.c, _sctp.c) */
enum conn_state {
	STATE_NONE,
	STATE_ESTABLISHED,
	STATE_SYN_SENT,
	STATE_SYN_RECV,
	STATE_FIN_WAIT,
	STATE_TIME_WAIT,
	STATE_CLOSE,
	STATE_CLOSE_WAIT,
	STATE_LAST_ACK,
	STATE_LISTEN,
	STATE_SYNACK,
	STATE_UDP,
	STATE_SCTP_INIT,
	STATE_SCTP_ESTABLISHED,
	STATE_SCTP_CLOSING,
	STATE_TEMPLATE, /* persistence; its time is that of the service */
	STATES,
};

enum conn_flag {
	CONN_USED = 1 << 0,
	CONN_BUSY = 1 << 1,	/* being written; nobody else may look */
	CONN_REVERSE = 1 << 2,	/* keyed as the server's answers are; `peer` is the connection */
	CONN_ACTIVE = 1 << 3,	/* counted as active, else as inactive */
	CONN_BOTH_WAYS = 1 << 4, /* nat, fullnat: the server is heard here too */
	CONN_CONFIRMED = 1 << 5, /* UDP: more than its first packet was seen */
};

enum vip_protocol {
	VIP_TCP = 1 << 0,
	VIP_UDP = 1 << 1,
	VIP_SCTP = 1 << 2,
};

/* Marks in the filter: what an address may be.  Wrong only ever in the careful direction. */
enum filter_mark {
	MARK_VIP = 1 << 0,	/* destination: of a service */
	MARK_ANY_PORT = 1 << 1, /* destination: of a service on every port */
	MARK_SERVER = 1 << 2,	/* source: of a server whose answers are rewritten */
};

/* Why a packet met its fate.  The name of each, in lower case, is its name in metrics. */
enum reason {
	/* passed to the kernel's own stack */
	REASON_NOT_OURS,
	REASON_NO_SERVICE, /* an address of a service, another port */
	/* forwarded */
	REASON_FORWARDED,
	REASON_REPLY, /* a server's answer on its way to the client */
	REASON_ICMP_FORWARDED,
	/* answered by the datapath itself */
	REASON_ECHO_ANSWERED,
	REASON_TOO_BIG_ANSWERED,
	REASON_TTL_ANSWERED,
	REASON_REFUSED, /* no server: TCP reset, or port unreachable */
	/* dropped */
	REASON_MALFORMED,
	REASON_FRAGMENT_UNPLACED, /* it came before the first fragment, or long after */
	REASON_NO_SERVER,	  /* that may take it, and no answer was sent */
	REASON_NO_CONNECTION,	  /* in the middle of something that is not known here */
	REASON_TABLE_FULL,
	REASON_NO_SOURCE_PORT, /* fullnat: all ports towards that server are taken */
	REASON_NO_NEIGHBOUR,
	REASON_NO_ROUTE,
	REASON_TOO_BIG,	    /* and not to be told: it may be fragmented */
	REASON_TTL_EXPIRED, /* and not to be told */
	REASON_ICMP_UNMATCHED,
	REASON_NO_HEADROOM, /* the driver leaves no room for an outer header */
	REASON_UNSUPPORTED,
	REASONS,
};

/* The one value of map `abi`. */
struct abi {
	__u32 version;
	__u32 services;	 /* entries of `services` */
	__u32 servers;	 /* entries of `servers` */
	__u32 slots;	 /* entries of `slots` */
	__u32 conns4;	 /* buckets of `conns4`, a power of two */
	__u32 conns6;	 /* buckets of `conns6`, a power of two */
	__u64 hash_seed; /* of the connection tables; secret, and kept as long as they are */
};

/* Settings that may change while packets flow: map `.data.settings`. */
struct settings {
	__u32 timeouts[STATES]; /* ticks; STATE_TEMPLATE unused */
	__u32 icmp_per_second;	/* errors and resets sent by one CPU, at most; 0: no limit */
	__u32 reserved[15];
};

/*
 * Key of `service_ids`.  Beside services it has one entry for every address of a service, with port
 * and protocol 0, whose value says which protocols it has services of (enum vip_protocol): where
 * the filter's "may be" is not enough.
 */
struct service_key {
	__be32 addr[4];
	__be16 port; /* 0: every port */
	__u8 protocol;
	__u8 family;
};

/* A run of entries of `slots`: read in one load, replaced in one store. */
struct run {
	__u32 first;
	__u32 count;
};

struct service {
	struct run members; /* ids of its servers, oldest first */
	struct run table;   /* sh, mh: id of the server of each slot */
	__u32 pad0;
	__u8 scheduler;
	__u8 flags;
	__u8 family;
	__u8 protocol;
	__be32 addr[4];
	__be32 netmask[4]; /* persistence: of the clients that belong together */
	__u32 persistence; /* ticks */
	__be16 port;
	__u8 prefix; /* persistence: length of netmask */
	__u8 pad1;
	__u32 max_weight; /* wrr: largest weight less (step - 1), as IPVS has it */
	__u32 step;	  /* wrr: greatest common divisor of the weights */
	__u64 cursor;	  /* rr: member last used.  wrr: weight of the round << 32 | member */
	__u32 persistence_seconds;
	__u32 pad2[11];
};

/* How to reach the next machine: what goes on the wire, and where. */
struct hop {
	__u32 ifindex;
	__u8 dst[6];
	__u8 src[6];
};

struct server {
	__be32 addr[4];
	__be32 source[4]; /* ours: of the outer header, or of fullnat */
	struct hop hop;
	__u32 service;
	__u8 generation; /* counts the servers that this id has been */
	__u8 flags;
	__u8 family;
	__u8 forwarding;
	__u32 weight;
	__be16 port; /* nat, fullnat; 0: the packet's own */
	__u16 mtu;   /* largest packet, before encapsulation; 0: not known */
	__be16 vlan; /* 802.1Q tag on the way to the server, 0: none */
	__u8 tunnel;
	__u8 pad0;
	__be16 tunnel_port;	/* GUE */
	__be16 declared_port;	/* as the operator wrote it; dsr and tunnel do not use it */
	__u32 outer_sum;	/* outer IPv4 header: sum of both addresses */
	__u32 upper, lower;	/* connection thresholds; 0: none */
	__u32 last_weight;	/* mh: a drained server keeps its slots */
	__u32 pad1[10];
};

/* Connections of a server now: written by the program, healed by the sweep. */
struct load {
	__u32 active;
	__u32 inactive;
	__u32 persistent; /* templates of clients that stay here */
	__u32 overloaded; /* above its upper threshold, and not yet below the lower one since */
};

/*
 * One entry of a connection table, with its addresses behind it: 2 words (IPv4, 32 bytes) or 8
 * (IPv6, 64 bytes, of which 56 are used).  `word` is claimed by compare-and-swap, so that an entry
 * is counted once and freed once; a reader takes it first and looks again at the end.
 */
union conn_word {
	__u64 word;
	struct {
		__u32 server; /* id, 24 bits, and generation, 8 bits above */
		__u16 tag;    /* of the key's hash */
		__u8 state;
		__u8 flags;
	};
};

struct conn {
	union conn_word word;
	__u32 seen; /* tick of the last packet */
	__u32 peer; /* index of the entry of the other direction, or NONE */
	__be16 sport, dport;
	__be16 source_port; /* fullnat */
	__u8 protocol;
	__u8 pad;
	__be32 addr[]; /* source, destination */
};

#define CONN4_SIZE 32
#define CONN6_SIZE 64

struct bucket4 {
	__u8 ways[CONN_WAYS * CONN4_SIZE];
};

struct bucket6 {
	__u8 ways[CONN_WAYS * CONN6_SIZE];
};

/* Per CPU, by server and by service. */
struct counters {
	__u64 packets_in;
	__u64 bytes_in; /* of the IP packet, before encapsulation */
	__u64 packets_out;
	__u64 bytes_out;
	__u64 connections;
};

/* What packets give away about a server's health: map `signals`. */
struct signals {
	__u64 begun;	   /* connections that got beyond their first packet */
	__u64 syn_again;   /* first packets that had to be sent again */
	__u64 unreachable; /* ICMP unreachable that quotes what nat or fullnat sent there */
};

/* A fragmented datagram: later fragments follow the first. */
struct fragment_key {
	__be32 addr[8]; /* source, destination */
	__be32 id;
	__u8 protocol;
	__u8 family;
	__u16 pad;
};

struct fragment {
	__u32 conn;   /* index of its connection, or NONE (no entry was made) */
	__u32 server; /* id and generation */
	__u32 seen;   /* tick */
	__u32 answers; /* 1: from the server to the client */
};

/* Map `unresolved`: neighbours that the FIB names and the kernel has no address of yet. */
struct neighbour_key {
	__be32 addr[4];
	__u32 ifindex;
	__u32 family;
};

/* Map `returns`: how a client was heard, for answers while the kernel does not know its neighbour. */
struct return_key {
	__be32 addr[4];
};

struct return_hop {
	struct hop hop;
	__be16 vlan;
	__u16 pad;
	__u32 seen; /* tick */
};

/* What the program explain finds out about one packet. */
enum chosen_by {
	CHOSEN_NOT, /* no server was chosen */
	CHOSEN_CONNECTION,
	CHOSEN_TEMPLATE,
	CHOSEN_SCHEDULER,
};

struct explanation {
	__u32 reason;
	__u32 service;
	__u32 server;
	__u32 chosen_by;
	__u32 conn; /* index of the entry that was found, or NONE */
	__u32 state;
	__u32 ifindex;
	__u32 by_fib; /* the next hop was asked from the kernel's FIB */
};

/* Arguments and results of the program sweep, one call of which walks some buckets. */
struct sweep {
	__u32 family;
	__u32 first; /* bucket */
	__u32 count;
	__u32 recount; /* 1: count the connections of every server into `recount` on the way */
	__u32 used;    /* out: entries that stay */
	__u32 expired; /* out: entries freed */
	__u32 half_open;
	__u32 pad;
};

_Static_assert(sizeof(struct service) == 128, "two cache lines");
_Static_assert(sizeof(struct server) == 128, "two cache lines");
_Static_assert(sizeof(struct conn) == 24, "one IPv4 entry is half a cache line");
_Static_assert(sizeof(struct service_key) == 20, "no padding in a key");
_Static_assert(sizeof(struct fragment_key) == 40, "no padding in a key");

#endif
