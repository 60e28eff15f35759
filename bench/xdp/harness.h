/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.h - ns a packet of XDP programs, by BPF_PROG_TEST_RUN behind replay.bpf.c (which see).
 *
 * A case is one program under one kind of traffic.  All cases are measured in turn, round after
 * round, those of one traffic in a row, so that drifts of the machine fall on all of them alike.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <bpf/libbpf.h>

#include "frames.h"
#include "replay.h"

#define NEW_FLOWS 0xffffffffu

/* A kind of traffic; whatever is measured under the same name is comparable. */
struct traffic {
	const char *name;
	uint8_t family, protocol, tcp_flags;
	uint32_t flow_mask; /* 0: one flow; 2^k - 1: 2^k flows; NEW_FLOWS: each packet another */
	bool answers;	    /* the flows differ in destination */
	uint64_t warm, n;   /* packets before, packets measured */
};

struct bench_case {
	const char *target; /* program */
	const char *label;  /* what distinguishes cases of one program and traffic */
	const char *floor;  /* target to compare with, under the same traffic */
	const struct traffic *traffic;
	struct packet packet; /* of the first flow */
	enum outcome want;
	double bar; /* times the floor, at most; 0: none is set */
	uint64_t n; /* 0: as the traffic says */
	int program;
	void (*before)(struct bench_case *); /* ahead of warming, every round */
	void (*start)(struct bench_case *);  /* ahead of measuring */
	/* after it: NULL, or what shows that the case did not do what its name says */
	const char *(*fault)(struct bench_case *, uint64_t n);
	/* after the check of its frame: NULL, or what the program itself says that differs */
	const char *(*confirm)(struct bench_case *);
	void *world; /* of those four */
	/* the harness's own */
	int number, replay;
	struct replay_state *state;
};

struct options {
	const char *objects, *csv, *only;
	int rounds, cpu, patience;
	bool quick, verbose;
};

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* Pins this process to a processor and gives it a network namespace of its own. */
void harness_open(const struct options *options);
/* Opened, with the flags that the product's loader sets; not loaded. */
struct bpf_object *open_object(const char *path);
int program_of(const struct bpf_object *object, const char *name);
void set_entries(struct bpf_object *object, const char *map, uint32_t entries);
int map_of(const struct bpf_object *object, const char *name);
/* Where a variable lies in the initial value of its section. */
void *variable(struct bpf_object *object, const char *section, const char *name);
unsigned int ingress(void);

struct bench_case *add_case(struct bench_case given);
/* One frame through a program; the frame that comes out replaces it.  Returns what it returned. */
int run_once(int program, uint8_t *frame, int *length);
/* n packets of a case, not measured. */
void pump(struct bench_case *c, uint64_t n);
/* The same without a case. */
void flood(int program, const struct traffic *traffic, struct packet packet, uint64_t n);
/* Back by n packets: the last n flows come again. */
void back(struct bench_case *c, uint64_t n);
bool check_cases(bool verbose);
void run_cases(const struct options *options);

#endif
