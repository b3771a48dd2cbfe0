/*
 * What a file's readers will want next. Pure: no I/O, no time, no locks (the
 * owner's lock guards it).
 *
 * A file has several cursors because loaders read one file from many
 * processes at once; each follows one stream. A stream that goes on gets a
 * window that grows whenever its reader caught up with it, above its reads or,
 * where they go down, below them; a read that continues no stream gets nothing
 * beyond what it asked for, unless others that jumped so became part of one.
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
	PREFETCH_LONG = 2 << 20, /* of a stream that shows how a file is read */
	PREFETCH_TRUST = 4, /* jumps taken for part of one after that */
	PREFETCH_STEP = 8 << 20, /* refill a wide window up to a multiple */
	PREFETCH_PAGE =
		4096, /* of the kernel; if larger, it takes a step more */
	PREFETCH_FAULT = 128 << 10, /* what it reads around a page fault */
	/* ... and for another in the page below */
	PREFETCH_FAULTS = PREFETCH_FAULT + PREFETCH_FAULT / 2 + PREFETCH_PAGE,
};

struct prefetch_cursor {
	uint64_t next; /* where the stream stands */
	uint64_t ahead; /* end of what was asked for on its behalf */
	uint64_t window;
	uint64_t used; /* stamp of last use, 0: free */
	uint64_t low; /* lowest offset of the stream */
	uint64_t below; /* begin of what was asked for */
	unsigned downs; /* steps down in a row */
	bool down;
	bool guessed; /* began with what lies around it */
};

struct prefetch {
	struct prefetch_cursor cursor[PREFETCH_CURSORS];
	uint64_t stamp;
	unsigned peeks; /* jumps that get as much as a page fault would */
	unsigned trust; /* jumps that get what lies around them */
	uint64_t window; /* ... and so much above */
	uint64_t longest; /* stream that won the trust */
	bool grown; /* the window, since then */
};

/*
 * Notes a read of [off, off + len) of a file of `size` bytes. stalled: the
 * reader had to wait. Gives in [*from, *to) the range worth fetching ahead
 * (empty: *from == *to), beginning at or after the read's end, at most
 * max_window ahead of it; or ending at or before its begin, where the stream
 * goes down; or around it, whole steps.
 */
void prefetch_note(struct prefetch *p, uint64_t size, uint64_t off,
		   uint64_t len, bool stalled, uint64_t max_window,
		   uint64_t *from, uint64_t *to);

/*
 * A read next to one that is still waited for: when several processes fault on
 * one page, what the kernel reads around it comes in pieces. true: they are
 * taken for one read; false: note it.
 */
bool prefetch_piece(struct prefetch *p, uint64_t off, uint64_t len);

/*
 * Of the range that the last prefetch_note gave, which ended at `to`, only the
 * part before `begun` was asked for (no memory was left): the rest will be
 * given again.
 */
void prefetch_begun(struct prefetch *p, uint64_t to, uint64_t begun);
/* The same of a range that began at `from`, below the read: only the part from
 * `begun` on. */
void prefetch_begun_down(struct prefetch *p, uint64_t from, uint64_t begun);

#endif
