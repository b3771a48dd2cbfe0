/*
 * What a file's readers will want next. Pure: no I/O, no time, no locks (the
 * owner's lock guards it).
 *
 * A file has several cursors because loaders read one file from many
 * processes at once; each follows one stream. A stream that goes on gets a
 * window that grows whenever its reader caught up with it, above its reads or,
 * where they go down, below them; a read that continues no stream gets nothing
 * beyond what it asked for.
 */
#ifndef IO_PREFETCH_H
#define IO_PREFETCH_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PREFETCH_CURSORS = 8,
	PREFETCH_NEAR =
		1 << 20, /* forward jump or step back still sequential */
	PREFETCH_FIRST = 1 << 20, /* first window */
	PREFETCH_LARGE = 128 << 10, /* who begins so begins with a step */
	PREFETCH_GROWTH = 4, /* of the window when its reader caught up */
	PREFETCH_OVERLAP = 128 << 10, /* of a step down with the one before */
	PREFETCH_DOWNS = 2, /* steps down that make a stream */
	PREFETCH_LONG_DOWN = 2 << 20,
	PREFETCH_TRUST = 4, /* streams taken for such after a long one */
	PREFETCH_STEP = 8 << 20, /* refill a wide window up to a multiple */
};

struct prefetch_cursor {
	uint64_t next; /* where the stream stands */
	uint64_t ahead; /* end of what was asked for on its behalf */
	uint64_t window;
	uint64_t used; /* stamp of last use, 0: free */
	uint64_t low; /* lowest offset of the stream */
	uint64_t below; /* down: begin of what was asked for */
	unsigned downs; /* steps down in a row */
	bool down;
};

struct prefetch {
	struct prefetch_cursor cursor[PREFETCH_CURSORS];
	uint64_t stamp;
	unsigned trust_down; /* streams that are guessed to go down */
};

/*
 * Notes a read of [off, off + len) of a file of `size` bytes. stalled: the
 * reader had to wait. Gives in [*from, *to) the range worth fetching ahead
 * (empty: *from == *to), beginning at or after the read's end, at most
 * max_window ahead of it; or ending at or before its begin, where the stream
 * goes down.
 */
void prefetch_note(struct prefetch *p, uint64_t size, uint64_t off,
		   uint64_t len, bool stalled, uint64_t max_window,
		   uint64_t *from, uint64_t *to);

/*
 * Of the range that the last prefetch_note gave, which ended at `to`, only the
 * part before `begun` was asked for (no memory was left): the rest will be
 * given again.
 */
void prefetch_begun(struct prefetch *p, uint64_t to, uint64_t begun);
/* The same of a range below the read, which began at `from`: only the part from
 * `begun` on. */
void prefetch_begun_down(struct prefetch *p, uint64_t from, uint64_t begun);

#endif
