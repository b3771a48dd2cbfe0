/*
 * What was asked, by operation, price class and status, and the request log.
 * A request is counted when its work is done and before its answer is sent,
 * so that whoever has the answer finds it counted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

static _Atomic uint64_t ops[OP_COUNT], statuses[600], classes[128];
static _Atomic uint64_t bytes_in, bytes_out;
static uint64_t started_us;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *log_file;

static void zero(_Atomic uint64_t *counters, size_t n)
{
	while (n)
		counters[--n] = 0;
}

void count_open(const char *log_path)
{
	started_us = mono_us();
	if (!log_path)
		return;
	log_file = fopen(log_path, "a");
	if (!log_file) {
		fprintf(stderr, "r2sim: cannot write the log %s: %s\n",
			log_path, strerror(errno));
		exit(1);
	}
	setvbuf(log_file, NULL, _IOLBF, 0);
}

/* OP KEY STATUS OUT IN MS, the key percent-encoded, "-" for none */
static void log_request(const struct request *r)
{
	struct text key = { 0 };

	if (r->name)
		text_add_encoded(&key, r->name);
	pthread_mutex_lock(&log_lock);
	fprintf(log_file, "%s %s %u %llu %llu %.3f\n", op_info[r->op].name,
		key.s ? key.s : "-", r->status,
		(unsigned long long)r->bytes_out,
		(unsigned long long)r->body.len,
		(double)(mono_us() - started_us) / 1000);
	pthread_mutex_unlock(&log_lock);
	text_free(&key);
}

void count_request(const struct request *r)
{
	int class = op_info[r->op].class;

	ops[r->op]++;
	if (r->status < 600)
		statuses[r->status]++;
	if (!r->unbilled)
		classes[class]++;
	bytes_in += r->body.len;
	bytes_out += r->bytes_out;
	if (log_file)
		log_request(r);
}

void count_reset(void)
{
	zero(ops, OP_COUNT);
	zero(statuses, 600);
	zero(classes, 128);
	bytes_in = bytes_out = 0;
	limit_reset();
}

void count_json(struct text *t)
{
	unsigned long long total = 0;
	const char *join = "";

	text_add(t, "{\"ops\": {");
	for (int i = 0; i < OP_COUNT; i++) {
		uint64_t n = ops[i];

		text_add(t, "%s\"%s\": %llu", i ? ", " : "", op_info[i].name,
			 (unsigned long long)n);
		total += n;
	}
	text_add(t,
		 "}, \"class_a\": %llu, \"class_b\": %llu, \"free\": %llu, "
		 "\"total\": %llu, \"bytes_in\": %llu, \"bytes_out\": %llu, "
		 "\"status\": {",
		 (unsigned long long)classes['A'],
		 (unsigned long long)classes['B'],
		 (unsigned long long)classes['F'], total,
		 (unsigned long long)bytes_in, (unsigned long long)bytes_out);
	for (int i = 0; i < 600; i++) {
		if (!statuses[i])
			continue;
		text_add(t, "%s\"%d\": %llu", join, i,
			 (unsigned long long)statuses[i]);
		join = ", ";
	}
	text_add(t, "}, ");
	limit_json(t);
	text_add(t, ", \"faults\": ");
	fault_json(t);
	text_add(t, "}\n");
}
