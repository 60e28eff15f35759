// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kernlb.bpf.c - a layer-4 load balancer in XDP.
 *
 * A packet's walk, cheapest answer first:
 *
 *   parse.h     Ethernet, IP, ports; an address that the filter does not know is let go
 *   conn.h      the flow is known: its entry names the server
 *   balance.h   it is not: service, then server (select.h), then an entry
 *   forward.h   to the server by dsr, tunnel, nat or fullnat; hop.h puts it on the wire
 *   reply.h     a server's answer of nat or fullnat, back to the client
 *   icmp.h      echo to a VIP; errors that quote a flow
 *   answer.h    what the sender should hear of: too big, refused, TTL expired
 *   count.h     every packet has one reason, and every reason is counted
 *
 * README.md has the table of maps and the rules of the ABI.
 */
#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "csum.h"
#include "parse.h"
#include "conn.h"
#include "count.h"
#include "select.h"
#include "balance.h"
#include "hop.h"
#include "forward.h"
#include "reply.h"
#include "answer.h"
#include "icmp.h"
#include "fragment.h"

/*
 * A packet of a flow that has an entry: GO_ON with p->why.server.  ENTRY_STALE: the entry is of no
 * use any more, and gone.
 */
#define ENTRY_STALE (GO_ON + 1)

__noinline int follow(struct packet *p, struct found *found)
{
	struct server *server;
	struct conn *conn;

	if (!p || !found)
		return ENTRY_STALE;
	p->answers = found->word.flags & CONN_REVERSE;
	conn = p->answers ? connection_of(found->index, found, p->flow.family) :
			    conn_at(found->index, p->flow.family);
	server = server_of_ref(found->word.server);
	if (!conn || !server || is_expired(conn, found->word, p->now) ||
	    begins_again(p, found->word)) {
		if (conn && !p->dry)
			conn_take(found->index, found->word.word, 0, p->flow.family);
		return ENTRY_STALE;
	}
	p->source_port = conn->source_port;
	p->why.conn = found->index;
	p->why.state = found->word.state;
	p->why.server = SERVER_ID(found->word.server);
	p->why.service = server->service;
	p->why.chosen_by = CHOSEN_CONNECTION;
	conn_touch(p, conn, found->word, p->answers);
	return GO_ON;
}

static __always_inline enum reason balance(struct xdp_md *ctx, struct packet *p)
{
	enum reason reason = parse(ctx, p);
	struct found found = {};
	bool begins = false;

	if (reason != GO_ON)
		return reason;
	p->now = now_tick();
	if (is_icmp(p))
		return handle_icmp(ctx, p);
	if (p->fragment == FRAGMENT_LATER)
		return follow_fragment(ctx, p);

	reason = conn_find(&p->flow, &found) ? follow(p, &found) : ENTRY_STALE;
	if (reason == ENTRY_STALE) {
		reason = begin(p);
		begins = true;
	}
	if (reason != GO_ON)
		return answer(ctx, p, reason);
	if (p->fragment == FRAGMENT_FIRST)
		remember_fragment(p);
	if (p->answers) {
		count_out_packet(p);
		reason = reply(ctx, p, p->why.conn);
	} else {
		count_in_packet(p, begins);
		reason = forward(ctx, p);
	}
	return answer(ctx, p, reason);
}

static __always_inline int action_of(const struct packet *p, enum reason reason)
{
	switch (reason) {
	case REASON_NOT_OURS:
	case REASON_NO_SERVICE:
	case REASON_ICMP_UNMATCHED:
		return XDP_PASS;
	case REASON_FORWARDED:
	case REASON_REPLY:
	case REASON_ICMP_FORWARDED:
	case REASON_ECHO_ANSWERED:
	case REASON_TOO_BIG_ANSWERED:
	case REASON_TTL_ANSWERED:
	case REASON_REFUSED:
		return p->action;
	default:
		return XDP_DROP;
	}
}

SEC("xdp")
int kernlb(struct xdp_md *ctx)
{
	struct packet p = {};
	enum reason reason = balance(ctx, &p);

	count_reason(reason);
	return action_of(&p, reason);
}

/*
 * The same decisions about one packet that nobody sent: run by `kernlb explain` through
 * BPF_PROG_TEST_RUN, never attached.  It changes nothing but `explanations`.
 */
SEC("xdp")
int explain(struct xdp_md *ctx)
{
	struct packet p = {
		.dry = true,
		.why = { .service = NONE, .server = NONE, .conn = NONE },
	};
	__u32 zero = 0;

	p.why.reason = balance(ctx, &p);
	bpf_map_update_elem(&explanations, &zero, &p.why, BPF_ANY);
	return action_of(&p, p.why.reason);
}

#include "sweep.h"

char _license[] SEC("license") = "Dual BSD/GPL";
