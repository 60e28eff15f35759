// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * flood.c - one packet with one port after another, as fast as the kernel takes them; for several
 * threads at once.
 */
#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns how many were sent on; -1 where the kernel does not run the program. */
long flood(int fd, uint32_t ifindex, const uint8_t *frame, uint32_t length, uint32_t port_at,
	   uint32_t first, uint32_t count)
{
	uint8_t in[2048], out[2304];
	uint32_t port;
	long sent = 0;

	memcpy(in, frame, length);
	for (port = first; port < first + count; port++) {
		struct xdp_md context = { .data_end = length, .ingress_ifindex = ifindex };
		union bpf_attr attr = {};

		in[port_at] = port >> 8;
		in[port_at + 1] = port;
		attr.test.prog_fd = fd;
		attr.test.data_in = (uint64_t)(uintptr_t)in;
		attr.test.data_size_in = length;
		attr.test.data_out = (uint64_t)(uintptr_t)out;
		attr.test.data_size_out = sizeof(out);
		attr.test.ctx_in = (uint64_t)(uintptr_t)&context;
		attr.test.ctx_size_in = sizeof(context);
		attr.test.repeat = 1;
		if (syscall(__NR_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)))
			return -1;
		sent += attr.test.retval == 3 || attr.test.retval == 4; /* XDP_TX, XDP_REDIRECT */
	}
	return sent;
}
