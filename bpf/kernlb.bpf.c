// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kernlb.bpf.c - a layer-4 load balancer in XDP.
 *
 * A packet's walk, cheapest answer first:
 *
 *   parse.h     Ethernet, IP, ports; an address that the filter does not know is let go
 *   conn.h      the flow is known: its entry (conn_table.h) names the server
 *   balance.h   it is not: service, server (select.h), then an entry (conn_insert.h)
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
#include "conn_insert.h"
#include "count.h"
#include "select.h"
#include "balance.h"
#include "hop.h"
#include "forward.h"
#include "reply.h"
#include "answer.h"
#include "icmp.h"
#include "fragment.h"
#include "express.h"

/*
 * A packet of a flow that has an entry: its server, or NULL where the entry is of no use any more
 * (and gone).
 */
static __always_inline struct server *follow(struct packet *p, struct found *found,
					     const __u8 family)
{
	struct server *server = server_of_ref(found->word.server);
	struct conn *conn;

	p->answers = found->word.flags & CONN_REVERSE;
	conn = p->answers ? connection_of(found->index, found, family) :
			    conn_at(found->index, family);
	if (!conn || !server || is_expired(conn, found->word, p->now)) {
		if (conn && !p->dry)
			conn_take(found->index, found->word.word, 0, family);
		p->answers = false;
		return NULL;
	}
	if (begins_again(p, found->word)) {
		if (!p->dry && conn_retire(found->index, found->word.word, family))
			p->retired = found->word.server + 1;
		return NULL;
	}
	p->source_port = conn->source_port;
	p->why.conn = found->index;
	p->why.state = found->word.state;
	p->why.server = SERVER_ID(found->word.server);
	p->why.service = server->service;
	p->why.chosen_by = CHOSEN_CONNECTION;
	conn_touch(p, conn, found->word, p->answers);
	return server;
}

/* What is rare is done in functions that the verifier looks at by themselves. */
static __always_inline enum reason balance_flow(struct xdp_md *ctx, struct packet *p,
						const __u8 family)
{
	struct server *server = NULL;
	enum reason reason;
	struct found found = {};

	if (conn_find(&p->flow, &found))
		server = follow(p, &found, family);
	if (server) {
		count_packet(p, false);
	} else {
		reason = begin(p);
		if (p->retired) { /* as IPVS: it was counted while the next one was scheduled */
			load_change(p->retired - 1, 0, -1);
			p->retired = 0;
		}
		if (reason == REASON_NO_SERVICE && p->fragment == FRAGMENT_FIRST)
			remember_fragment(p);
		if (reason != GO_ON)
			return answer(ctx, p, reason);
		server = server_at(p->why.server);
		if (!server)
			return REASON_NO_SERVER;
		if (server->forwarding >= FORWARD_NAT)
			prepare_reply(ctx, p);
		count_packet(p, true);
	}
	if (p->fragment == FRAGMENT_FIRST)
		remember_fragment(p);
	if (p->answers)
		reason = reply(ctx, p, p->why.conn);
	else
		reason = forward(ctx, p);
	return is_told(reason) ? answer(ctx, p, reason) : reason;
}

static __always_inline enum reason balance_ip(struct xdp_md *ctx, struct packet *p,
					      const __u8 family)
{
	enum reason reason = parse_ip(ctx, p, family);

	if (reason == REASON_MAY_BE_MALFORMED)
		return judge_malformed(p);
	if (reason != GO_ON)
		return reason;
	p->now = now_tick();
	if (is_icmp(p))
		return REASON_IS_ICMP;
	if (p->fragment == FRAGMENT_LATER)
		return follow_fragment(ctx, p);
	return balance_flow(ctx, p, family);
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

__noinline int write_explanation(const struct packet *p, __u32 reason)
{
	struct explanation explanation = { .reason = reason };
	__u32 zero = 0;

	if (!p)
		return 0;
	explanation.service = p->why.service;
	explanation.server = p->why.server;
	explanation.chosen_by = p->why.chosen_by;
	explanation.conn = p->why.conn;
	explanation.state = p->why.state;
	explanation.ifindex = p->why.ifindex;
	explanation.by_fib = p->why.by_fib;
	bpf_map_update_elem(&explanations, &zero, &explanation, BPF_ANY);
	return 0;
}

/* Every packet ends here: counted by its reason, or explained. */
static __always_inline int verdict(struct packet *p, enum reason reason)
{
	if (p->dry)
		write_explanation(p, reason);
	else
		count_reason(reason);
	return action_of(p, reason);
}

#define NO_WHY { .service = NONE, .server = NONE, .conn = NONE }
#define ACTION_LATER (-1) /* it is ICMP, which needs the stack for itself */

__noinline int balance(struct xdp_md *ctx, bool dry)
{
	struct packet p = { .dry = dry, .why = NO_WHY };
	enum reason reason = REASON_NOT_OURS;

	switch (parse_ethernet(ctx, &p)) {
	case bpf_htons(ETH_P_IP):
		reason = balance_ip(ctx, &p, FAMILY_IPV4);
		break;
	case bpf_htons(ETH_P_IPV6):
		reason = balance_ip(ctx, &p, FAMILY_IPV6);
		break;
	}
	return reason == REASON_IS_ICMP ? ACTION_LATER : verdict(&p, reason);
}

__noinline int balance_icmp(struct xdp_md *ctx, bool dry)
{
	struct packet p = { .dry = dry, .why = NO_WHY };
	__be16 type = parse_ethernet(ctx, &p);
	enum reason reason;

	reason = type == bpf_htons(ETH_P_IP) ? parse_ip(ctx, &p, FAMILY_IPV4) :
					       parse_ip(ctx, &p, FAMILY_IPV6);
	if (reason == GO_ON) {
		p.now = now_tick();
		reason = handle_icmp(ctx, &p);
	}
	return verdict(&p, reason);
}

static __always_inline int long_way(struct xdp_md *ctx, bool dry)
{
	int action = balance(ctx, dry);

	return action == ACTION_LATER ? balance_icmp(ctx, dry) : action;
}

SEC("xdp")
int kernlb(struct xdp_md *ctx)
{
	int action = express(ctx);

	return action == LONG_WAY ? long_way(ctx, false) : action;
}

/*
 * The same decisions about one packet that nobody sent: run by `kernlb explain` through
 * BPF_PROG_TEST_RUN, never attached.  It changes nothing but `explanations`.
 */
SEC("xdp")
int explain(struct xdp_md *ctx)
{
	return long_way(ctx, true);
}

#include "sweep.h"

char _license[] SEC("license") = "Dual BSD/GPL";
