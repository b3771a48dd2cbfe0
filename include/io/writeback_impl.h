/*
 * Internals of the write side, shared by writeback.c (content and its changes),
 * writeback_read.c (reads), writeback_record.c (the journal), upload.c (how it
 * reaches R2) and multipart*.c (in parts).
 * Lock order: writeback.lock -> the staged file's own, the pace's.
 */
#ifndef IO_WRITEBACK_IMPL_H
#define IO_WRITEBACK_IMPL_H

#include "base/lock.h"
#include "io/fetch.h"
#include "io/pace.h"
#include "io/parts.h"
#include "io/writeback.h"

enum part_state { PART_TODO, PART_FLYING, PART_DONE };

struct part {
	enum part_state state;
	uint32_t gen; /* counts changes: a part changed in flight is sent again */
	bool summed; /* md5 is that of the bytes now */
	bool stale; /* changed, which this store does not take notice of */
	unsigned tries; /* of this store to sum and send it */
	uint8_t md5[16];
	char etag[STORE_PART_ETAG_MAX];
};

/* An upload under way; its parts are guarded by the writeback's lock. */
struct multipart {
	char *key, *id;
	uint64_t meta_gen; /* what its metadata was made from */
	bool copied; /* parts of it, from the base */
	uint64_t part_size;
	struct part *parts;
	unsigned n, flying;
	struct part_window window;
	unsigned done; /* counts parts that arrived */
	int error;
	char why[192];
	/* the store under way */
	bool taken; /* there is one */
	bool frozen; /* what changes now comes too late for it */
	uint64_t limit; /* what lies beyond is not its business */
	unsigned patience; /* a part is sent so often before it is frozen */
};

struct writeback {
	struct writebacks *ws;
	struct staged *staged;
	struct mutex lock;
	struct cond changed;
	unsigned refs; /* atomic */
	bool discard; /* atomic */
	struct mutex recording; /* one record at a time; taken before lock */
	/* guarded by lock */
	struct fill_file *base; /* NULL: none, or all of it is local */
	struct fill_file *origin; /* the first base, of which the cache may have
				   * what the present one has in common */
	char *base_key, *base_etag; /* the version this builds on, or NULL */
	uint64_t base_size;
	uint64_t gen, data_gen; /* changes so far; those of bytes */
	uint64_t touched; /* gen of the last one of metadata alone */
	uint64_t stored_gen, stored_data_gen;
	char *stored_key; /* NULL: never stored by us */
	struct store_etag stored_etag;
	bool resumed; /* an earlier run, or try, may have stored it, unheard */
	bool paced; /* its key's pace has begun with it */
	bool storing; /* one store at a time */
	bool streaming; /* a task sends parts */
	bool hurry; /* the task shall end: a store takes over */
	struct multipart *mpu;
	struct journal_rec last; /* what the journal was told last; key NULL:
				  * it has no record; changed with recording
				  * held too */
	uint64_t recorded_gen, recorded_data_gen; /* what it was told of */
	bool recorded_base; /* the content has the same base since */
	struct task task;
	uint64_t meta_gen; /* the storing task's own: of what it stored */
	/* the streaming task's own */
	struct store_meta stream_meta;
	uint64_t stream_as_of;
	char *stream_key;
};

struct writebacks {
	struct writeback_config config;
	struct pace *pace;
	uint64_t unmeasured; /* bytes staged since the disk was looked at; atomic */
	unsigned parts_flying; /* of all uploads; atomic */
};

/* ---- multipart*.c ---- */

/* Bytes [off, end) changed (or appeared, or went). */
void multipart_changed_locked(struct writeback *wb, uint64_t off, uint64_t end)
	REQUIRES(wb->lock);

/* Makes the upload if there is none for this key; meta was made from the
 * change as_of. */
MUST_CHECK int multipart_begin(struct writeback *wb, const char *key,
			       const struct store_meta *meta, uint64_t as_of,
			       struct store_interrupt *interrupt, char *why);
/* A store begins: what it covers ends where the file ends now. */
void multipart_take(struct writeback *wb);
/* It ended without the completion: what it took no notice of counts again. */
void multipart_give_back(struct writeback *wb);
/* Sends parts: all there are, and returns with none in flight; or (stream) the
 * full ones until nothing is left to send just now, or until hurry is set:
 * then what is in flight is left to the run that follows. -EAGAIN: the file has
 * outgrown the parts, multipart_begin makes larger ones. */
MUST_CHECK int multipart_run(struct writeback *wb, bool stream,
			     struct store_interrupt *interrupt, char *why);
/* -EAGAIN: a part has changed since it was sent. */
MUST_CHECK int multipart_complete(struct writeback *wb,
				  const struct writeback_target *target,
				  struct store_interrupt *interrupt,
				  struct writeback_result *ret);
void multipart_begin_window(const struct writebacks *ws, struct multipart *m);
void multipart_free(struct multipart *m);
/* Forgets the upload here and in R2. */
void multipart_drop(struct writeback *wb);

/* ---- writeback.c ---- */

struct writeback *writeback_new(struct writebacks *ws, struct staged *staged);

/* Of a new one. */
MUST_CHECK int writeback_set_base(struct writeback *wb,
				  const struct writeback_base *base);

/* Is there room for n bytes more, beyond --min-free? Looks at the disk from time
 * to time, and at each write when it is nearly full. */
MUST_CHECK int writeback_make_room(struct writebacks *ws, uint64_t n);

bool writeback_is_resumed(struct writeback *wb);

/* Is the content that of the object it builds on, though it may be local? */
bool writeback_is_base_locked(struct writeback *wb) REQUIRES(wb->lock);

/* Is nothing left that comes from the base? */
bool writeback_all_local(struct writeback *wb);

/* ---- writeback_read.c ---- */

/* Makes [off, end) local. */
MUST_CHECK int writeback_fill_range(struct writeback *wb, uint64_t off,
				    uint64_t end);

#endif
