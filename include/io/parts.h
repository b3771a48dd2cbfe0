/*
 * How a file is cut into the parts of a multipart upload, and how many of them
 * travel at once. Pure.
 *
 * R2's rules (r2-facts 2.5): at most 10,000 parts, all but the last of one
 * size, that size between 5 MiB and 5 GiB - 5 MiB, the last one not larger.
 */
#ifndef IO_PARTS_H
#define IO_PARTS_H

#include <stdbool.h>
#include <stdint.h>

enum { PARTS_MAX = 10000 };

#define PART_MIN (5ull << 20)
#define PART_MAX ((5ull << 30) - (5ull << 20))
#define PART_COPY_MAX \
	(512ull << 20) /* a larger server-side copy takes too
				      * long for one request */
#define OBJECT_MAX ((5ull << 40) - (5ull << 30))

/* Does any byte of [off, end) have to travel? */
typedef bool parts_changed_fn(void *arg, uint64_t off, uint64_t end);

/* Part size for content that travels whole; `wish` is used when it suffices
 * (0: 16 MiB). 0: the file is larger than an object can be. */
uint64_t parts_size(uint64_t size, uint64_t wish);

/*
 * The same for content that has outgrown the parts of its first upload and
 * travels once more: parts that suffice for several times its size, since it
 * may go on growing. In all a file is begun anew at most twice.
 */
uint64_t parts_size_outgrown(uint64_t size, uint64_t wish);

/*
 * Part size for a file of `size` bytes of which the object already holds all
 * that `changed` denies within [0, base_len): the one for which the fewest
 * bytes travel, a request counted as 256 KiB. 0: too large.
 */
uint64_t parts_size_rewrite(uint64_t size, uint64_t base_len, uint64_t wish,
			    parts_changed_fn *changed, void *arg);

/*
 * How many parts of one upload may be in flight. R2 takes so many and no more,
 * documents no number and has been seen to refuse the fifth (r2-facts 2.5).
 */
struct part_window {
	unsigned now; /* at least 1 */
	unsigned most; /* what it grows to */
	unsigned least; /* below which one second's refusals do not bring most */
	unsigned calm; /* parts stored since the last refusal */
	uint64_t halved_ms; /* 0: never */
	uint64_t full_ms; /* since when it is full and unrefused; 0: it is not */
};

struct part_window part_window_begin(unsigned first, unsigned most);
void part_window_stored(struct part_window *w, unsigned most);
/* While parts travel, now and then. */
void part_window_tick(struct part_window *w, unsigned flying, uint64_t now_ms);
/* A part was refused, with `flying` in flight. */
void part_window_refused(struct part_window *w, unsigned flying,
			 uint64_t now_ms);

static inline unsigned parts_count(uint64_t size, uint64_t part_size)
{
	return size ? (unsigned)((size + part_size - 1) / part_size) : 1;
}

#endif
