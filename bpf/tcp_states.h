/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tcp_states.h - how a packet moves a connection on, as IPVS has it, as tables.
 *
 * The transitions are those of net/netfilter/ipvs/ip_vs_proto_tcp.c (tcp_states): by what the
 * packet says, by the state, and by who speaks.  In dsr and tunnel only the client is heard.
 */
#ifndef KERNLB_TCP_STATES_H
#define KERNLB_TCP_STATES_H

enum tcp_direction {
	TCP_INPUT,
	TCP_OUTPUT,
	TCP_INPUT_ONLY,
};

enum tcp_event {
	EVENT_SYN,
	EVENT_FIN,
	EVENT_ACK,
	EVENT_RST,
};

#define NO STATE_NONE
#define ES STATE_ESTABLISHED
#define SS STATE_SYN_SENT
#define SR STATE_SYN_RECV
#define FW STATE_FIN_WAIT
#define TW STATE_TIME_WAIT
#define CL STATE_CLOSE
#define CW STATE_CLOSE_WAIT
#define LA STATE_LAST_ACK
#define LI STATE_LISTEN
#define SA STATE_SYNACK

/* clang-format off */
static const __u8 tcp_states[3][4][16] = {
	[TCP_INPUT] = { /* from  NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA */
		[EVENT_SYN] = { SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR },
		[EVENT_FIN] = { CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW },
		[EVENT_ACK] = { ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES },
		[EVENT_RST] = { CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR },
	},
	[TCP_OUTPUT] = {
		[EVENT_SYN] = { SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR },
		[EVENT_FIN] = { TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW },
		[EVENT_ACK] = { ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES },
		[EVENT_RST] = { CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL },
	},
	[TCP_INPUT_ONLY] = {
		[EVENT_SYN] = { SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR },
		[EVENT_FIN] = { CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW },
		[EVENT_ACK] = { ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES },
		[EVENT_RST] = { CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL },
	},
};
/* clang-format on */

#undef NO
#undef ES
#undef SS
#undef SR
#undef FW
#undef TW
#undef CL
#undef CW
#undef LA
#undef LI
#undef SA

static __always_inline __u8 tcp_next_state(__u8 state, __u8 flags, enum tcp_direction direction)
{
	enum tcp_event event = flags & TCP_RST ? EVENT_RST :
			       flags & TCP_SYN ? EVENT_SYN :
			       flags & TCP_FIN ? EVENT_FIN :
						 EVENT_ACK;

	if (!(flags & (TCP_RST | TCP_SYN | TCP_FIN | TCP_ACK)))
		return STATE_CLOSE;
	return tcp_states[direction][event][state & 15];
}

/* SCTP by its first chunk: established when the client has echoed its cookie, or sends data. */
static __always_inline __u8 sctp_next_state(__u8 state, __u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return state == STATE_SCTP_ESTABLISHED ? state : STATE_SCTP_INIT;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN:
	case SCTP_SHUTDOWN_ACK:
	case SCTP_SHUTDOWN_COMPLETE:
		return STATE_SCTP_CLOSING;
	case SCTP_COOKIE_ECHO:
	case SCTP_DATA:
		return state == STATE_SCTP_CLOSING ? state : STATE_SCTP_ESTABLISHED;
	default:
		return state;
	}
}

/* ip_vs_proto_tcp.c, tcp_state_active_table */
static __always_inline bool is_active(__u8 state)
{
	return state == STATE_ESTABLISHED || state == STATE_SYN_SENT || state == STATE_SYN_RECV ||
	       state == STATE_SCTP_ESTABLISHED;
}

#endif
