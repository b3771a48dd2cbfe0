/*
 * An odometer that learns its wheels. It begins with one; when the reader
 * turns back to where the row began and another number has moved, that number
 * is the next wheel, and the row's length is known. A path that does not
 * exist ends a row too, but only until the reader shows otherwise: arrays
 * have holes.
 */
#include "io/predict_stream.h"

#include <stdlib.h>
#include <string.h>

enum {
	SLACK = 32, /* how far threads that share the work get out of order */
	JUMP = 16, /* steps in a row that a reader may leave out */
	IDLE = 16, /* files at hand in a row: there is nothing to do */
	PATIENCE = 4, /* paths of others before a stream is doubted */
};

static void clear_ring(struct stream *s)
{
	s->head = s->tail = s->here_at = 0;
	s->waiting = 0;
}

void stream_begin_numbers(struct stream *s, const char *path,
			  const struct spot *spot, unsigned field, int64_t step,
			  uint64_t lo)
{
	memset(s, 0, sizeof(*s));
	s->alive = true;
	s->base = xstrdup(path);
	s->of_base = *spot;
	memcpy(s->here, spot->value, sizeof(s->here));
	memcpy(s->there, spot->value, sizeof(s->there));
	s->level[0] = (struct level){ .field = field, .step = step, .lo = lo };
	s->levels = 1;
	s->window = PREDICT_FIRST;
}

void stream_begin_listing(struct stream *s, const char *path)
{
	memset(s, 0, sizeof(*s));
	s->alive = s->listed = true;
	s->last = xstrdup(path);
	s->window = PREDICT_FIRST;
}

void stream_end(struct stream *s, struct predict_stats *stats)
{
	if (!s->alive)
		return;
	stats->wasted += s->waiting;
	s->alive = false;
	free(s->base);
	free(s->last);
	s->base = s->last = NULL;
}

/* ---- the ring ---- */

static struct item *item_at(struct stream *s, uint64_t i)
{
	return &s->ring[i % STREAM_RING];
}

static struct item *find(struct stream *s, uint64_t hash, uint64_t *ret_i)
{
	for (uint64_t i = s->head; i < s->tail; i++) {
		if (item_at(s, i)->hash == hash) {
			*ret_i = i;
			return item_at(s, i);
		}
	}
	return NULL;
}

bool stream_holds(const struct stream *s, uint64_t hash)
{
	uint64_t i;

	return s->alive && find((struct stream *)s, hash, &i);
}

static void retire(struct stream *s, struct predict_stats *stats)
{
	while (s->head < s->tail) {
		struct item *it = item_at(s, s->head);

		if (it->state == ITEM_WAITING) {
			if (s->here_at < s->head + SLACK)
				return;
			stats->wasted++;
			s->waiting--;
		} else if (s->head >= s->here_at) {
			return;
		}
		s->head++;
	}
}

bool stream_hit(struct stream *s, uint64_t hash, unsigned max_window,
		struct predict_stats *stats)
{
	uint64_t i;
	struct item *it = find(s, hash, &i);

	if (!it)
		return false;
	if (it->state == ITEM_WAITING) {
		it->state = ITEM_USED;
		s->waiting--;
		stats->used++;
		if (s->window < max_window)
			s->window++;
	}
	if (i >= s->here_at) {
		s->here_at = i;
		memcpy(s->here, it->value, sizeof(s->here));
	}
	s->misses = 0;
	s->stamp = stats->asked;
	retire(s, stats);
	return true;
}

static void narrow(struct stream *s, struct predict_stats *stats)
{
	s->misses = 0;
	s->window /= 2;
	if (s->window == 0)
		stream_end(s, stats);
}

void stream_miss(struct stream *s, struct predict_stats *stats)
{
	if (s->waiting && ++s->misses > PATIENCE + s->window / 2)
		narrow(s, stats);
}

/* ---- the odometer ---- */

static bool beyond(const struct level *l, uint64_t value)
{
	return l->step > 0 ? value > l->hi : value < l->hi;
}

static bool at_start(const struct level *l, uint64_t value)
{
	return l->step > 0 ? value <= l->lo : value >= l->lo;
}

static int level_of(const struct stream *s, unsigned field)
{
	for (unsigned l = 0; l < s->levels; l++)
		if (s->level[l].field == field)
			return l;
	return -1;
}

/* Goes on from where the reader is now. */
static void replan(struct stream *s, const struct spot *spot,
		   struct predict_stats *stats)
{
	bool wrong = s->waiting > 0;

	stats->wasted += s->waiting;
	clear_ring(s);
	memcpy(s->here, spot->value, sizeof(s->here));
	memcpy(s->there, spot->value, sizeof(s->there));
	s->stamp = stats->asked;
	s->misses = 0;
	if (wrong)
		narrow(s, stats);
}

static bool follow_row(struct stream *s, const struct spot *spot,
		       struct predict_stats *stats)
{
	struct level *l = &s->level[0];
	uint64_t value = spot->value[l->field];
	int64_t way = (int64_t)(value - s->here[l->field]);

	if (way % l->step || way / l->step < -SLACK || way / l->step > JUMP)
		return false;
	if (way / l->step < 0) {
		if (at_start(l, value))
			l->lo = value;
		return true;
	}
	if (l->ends && beyond(l, value))
		l->ends = l->seen = false;
	replan(s, spot, stats);
	return true;
}

/* The wheels below `top` have turned back: their rows are known now. */
static bool learn_rows(struct stream *s, const struct spot *spot, unsigned top)
{
	for (unsigned i = 0; i < top; i++)
		if (!at_start(&s->level[i], spot->value[s->level[i].field]))
			return false;
	for (unsigned i = 0; i < top; i++) {
		struct level *l = &s->level[i];

		l->lo = spot->value[l->field];
		l->hi = s->here[l->field];
		l->ends = l->seen = true;
	}
	return true;
}

/* Counts changed fields that are no wheels yet; the highest wheel changed. */
static unsigned changes(const struct stream *s, const struct spot *spot,
			int *ret_top, unsigned *ret_field)
{
	unsigned unknown = 0;

	*ret_top = -1;
	for (unsigned f = 0; f < spot->n; f++) {
		int l = level_of(s, f);

		if (spot->value[f] == s->here[f])
			continue;
		if (l < 0) {
			unknown++;
			*ret_field = f;
		} else if (l > *ret_top) {
			*ret_top = l;
		}
	}
	return unknown;
}

/* Another reader may be at work in another row: believe a turn only to the
 * next one, or where this row is known to end. */
static bool new_row(const struct stream *s, const struct spot *spot,
		    unsigned field)
{
	const struct level *l = &s->level[0];
	int64_t step = (int64_t)(spot->value[field] - s->here[field]);

	return llabs(step) == 1 || (l->ends && s->here[l->field] == l->hi);
}

bool stream_follow(struct stream *s, const struct spot *spot,
		   struct predict_stats *stats)
{
	unsigned field = 0, unknown;
	int top;

	if (s->listed || spot->shape != s->of_base.shape ||
	    spot->n != s->of_base.n)
		return false;
	unknown = changes(s, spot, &top, &field);
	if (unknown > 1 || (unknown && s->levels == PREDICT_FIELDS))
		return false;
	if (!unknown && top <= 0)
		return top < 0 || follow_row(s, spot, stats);
	if (unknown) {
		if (!new_row(s, spot, field) || !learn_rows(s, spot, s->levels))
			return false;
		s->level[s->levels++] = (struct level){
			.field = field,
			.step = (int64_t)(spot->value[field] - s->here[field]),
			.lo = s->here[field],
		};
	} else {
		struct level *l = &s->level[top];
		uint64_t value = spot->value[l->field];

		if ((int64_t)(value - s->here[l->field]) != l->step ||
		    !learn_rows(s, spot, top))
			return false;
		if (l->ends && beyond(l, value))
			l->ends = l->seen = false;
	}
	replan(s, spot, stats);
	return true;
}

static bool turn(struct stream *s, struct item *item)
{
	memcpy(item->value, s->there, sizeof(item->value));
	for (unsigned i = 0; i < s->levels; i++) {
		const struct level *l = &s->level[i];
		uint64_t now = item->value[l->field], next = now + l->step;

		if ((l->step < 0) != (next < now))
			return false;
		if (!l->ends || !beyond(l, next)) {
			item->value[l->field] = next;
			item->level = i;
			return true;
		}
		item->value[l->field] = l->lo;
	}
	return false;
}

bool stream_peek(struct stream *s, const struct predict_config *config,
		 char *out, struct item *item)
{
	memset(item, 0, sizeof(*item));
	if (s->tail - s->head == STREAM_RING)
		return false;
	if (s->listed) {
		if (!config->after || !config->after(config->arg, s->last, out))
			return false;
	} else if (!turn(s, item) ||
		   !spot_format(s->base, &s->of_base, item->value, out)) {
		return false;
	}
	item->hash = predict_hash(out);
	return true;
}

void stream_push(struct stream *s, const char *path, const struct item *item)
{
	*item_at(s, s->tail++) = *item;
	s->waiting += item->state == ITEM_WAITING;
	if (s->listed) {
		free(s->last);
		s->last = xstrdup(path);
	} else {
		memcpy(s->there, item->value, sizeof(s->there));
	}
}

/* What was predicted after a row's end is not there either. */
static void cut_after(struct stream *s, uint64_t i, struct predict_stats *stats)
{
	while (s->tail > i + 1) {
		s->tail--;
		if (item_at(s, s->tail)->state == ITEM_WAITING) {
			s->waiting--;
			stats->absent++;
		}
	}
	if (s->here_at >= s->tail)
		s->here_at = s->tail - 1;
}

void stream_absent(struct stream *s, uint64_t hash, struct predict_stats *stats)
{
	uint64_t i;
	struct item *it = find(s, hash, &i);
	struct level *l;

	if (!it || it->state != ITEM_WAITING)
		return;
	it->state = ITEM_ABSENT;
	s->waiting--;
	stats->absent++;
	if (s->listed)
		return;
	l = &s->level[it->level];
	if (l->seen || (l->ends && beyond(l, it->value[l->field])))
		return;
	l->ends = true;
	l->hi = it->value[l->field] - l->step;
	cut_after(s, i, stats);
	memcpy(s->there, it->value, sizeof(s->there));
	for (unsigned k = 0; k <= it->level; k++)
		s->there[s->level[k].field] = s->level[k].hi;
}

/* Files at hand were no waste. */
void stream_result(struct stream *s, bool fetched, struct predict_stats *stats)
{
	s->idle = fetched ? 0 : s->idle + 1;
	if (s->idle < IDLE)
		return;
	s->waiting = 0;
	stream_end(s, stats);
}
