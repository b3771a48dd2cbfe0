/*
 * Answers that are sent piece by piece, because they are long, slowed down or
 * go wrong on the way. Everything else leaves as one buffer.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "r2sim.h"

enum { PIECE = 262144, RST_GRACE_US = 50000 };

struct stream {
	struct request *r;
	struct reader rd;
	char *text; /* or this */
	uint64_t from, len, rate, start_us;
	int action;
	uint64_t at; /* where the fault strikes */
	long ms;
};

_Atomic uint64_t link_bandwidth;

/* All connections take turns on one link. */
void link_wait(size_t n)
{
	static uint64_t free_us; /* atomic: when the link is free again */
	uint64_t before = __atomic_load_n(&free_us, __ATOMIC_RELAXED), after;
	uint64_t rate = link_bandwidth;

	if (!rate)
		return;
	do {
		uint64_t now = mono_us();

		after = (before > now ? before : now) + n * 1000000 / rate;
	} while (!__atomic_compare_exchange_n(&free_us, &before, after, false,
					      __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	sleep_until_us(after);
}

bool stream_wanted(const struct request *r)
{
	if (conn_bandwidth || link_bandwidth)
		return true;
	if (!r->fault)
		return false;
	switch (r->fault->action) {
	case F_CUT:
	case F_RST:
	case F_STALL:
	case F_SLOW:
	case F_CORRUPT:
	case F_LONG:
	case F_NOLENGTH:
		return true;
	default:
		return false;
	}
}

static void throttle(const struct stream *s, uint64_t sent)
{
	if (s->rate)
		sleep_until_us(s->start_us + sent * 1000000 / s->rate);
}

static bool fill(struct stream *s, uint64_t pos, char *buf, size_t n)
{
	uint64_t size, off = s->from + pos;
	size_t real;

	if (s->text) {
		memcpy(buf, s->text + off, n);
		return true;
	}
	size = s->rd.o->size;
	real = off >= size ? 0 : n < size - off ? n : size - off;
	memset(buf + real, 'X', n - real);
	return !real || reader_read(&s->rd, off, buf, real);
}

/* What is to happen at this place; 0, or what the callback returns. */
static ssize_t strike(struct stream *s, uint64_t pos)
{
	if (pos < s->at)
		return 0;
	if (s->action == F_CUT)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (s->action == F_RST) {
		usleep(RST_GRACE_US);
		reply_reset(s->r);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (s->action == F_STALL) {
		usleep(s->ms * 1000);
		s->action = -1;
	}
	return 0;
}

static ssize_t stream_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct stream *s = arg;
	uint64_t left = s->len - pos;
	size_t n = max < left ? max : left;
	ssize_t ret;

	if (!left)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (!s->start_us)
		s->start_us = mono_us();
	ret = strike(s, pos);
	if (ret)
		return ret;
	if (s->action >= 0 && pos < s->at && n > s->at - pos)
		n = s->at - pos;
	if (s->rate && n > s->rate / 50 + 1)
		n = s->rate / 50 + 1;
	if (link_bandwidth && n > 16384)
		n = 16384;
	if (!fill(s, pos, buf, n))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (s->action == F_CORRUPT && pos == s->at)
		buf[0] ^= 1;
	throttle(s, pos + n);
	link_wait(n);
	return n;
}

static void stream_free(void *arg)
{
	struct stream *s = arg;

	reader_release(&s->rd);
	object_unref(s->rd.o);
	free(s->text);
	free(s);
}

struct MHD_Response *stream_response(struct request *r, struct object *o,
				     char *text, uint64_t from, uint64_t end)
{
	struct stream *s = xalloc(sizeof(*s));
	const struct fault *f = r->fault;

	s->r = r;
	s->text = text;
	s->from = from;
	s->len = end - from;
	s->rate = conn_bandwidth;
	s->action = -1;
	reader_init(&s->rd, o);
	if (f && stream_wanted(r)) {
		s->action = f->action;
		s->at = f->value;
		s->ms = f->ms;
		if (f->action == F_LONG && !text)
			s->len += f->value;
		if (f->action == F_LONG || f->action == F_NOLENGTH)
			s->action = -1;
		if (f->action == F_SLOW) {
			s->rate = f->value ? f->value : 1;
			s->action = -1;
		}
	}
	r->bytes_out = s->len;
	return MHD_create_response_from_callback(
		fault_is(r, F_NOLENGTH) ? MHD_SIZE_UNKNOWN : s->len, PIECE,
		stream_read, s, stream_free);
}
