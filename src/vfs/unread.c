/*
 * A short list in the order of arrival; it is looked through at every open
 * while it is not empty.
 */
#include "vfs/unread.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"

struct entry {
	uint64_t ino;
	struct fill_file *fill;
	bool opened;
};

struct unread {
	struct mutex lock;
	unsigned max;
	/* guarded by lock */
	atomic_uint n;
	struct entry *entry; /* max, the oldest first */
};

struct unread *unread_create(unsigned max)
{
	struct unread *u = xcalloc(1, sizeof(*u));

	mutex_init(&u->lock);
	u->max = max;
	u->entry = xcalloc(max, sizeof(*u->entry));
	return u;
}

static void let_go(struct fill_file *fill)
{
	content_spare(fill_content(fill), false);
	fill_close(fill);
}

static struct fill_file *take_locked(struct unread *u, unsigned i)
	REQUIRES(u->lock)
{
	struct fill_file *fill = u->entry[i].fill;

	u->n--;
	memmove(&u->entry[i], &u->entry[i + 1], (u->n - i) * sizeof(*u->entry));
	return fill;
}

void unread_add(struct unread *u, uint64_t ino, struct fill_file *fill)
{
	struct fill_file *oldest = NULL;

	content_spare(fill_content(fill), true);
	mutex_lock(&u->lock);
	if (u->n == u->max)
		oldest = take_locked(u, 0);
	u->entry[u->n++] = (struct entry){ .ino = ino, .fill = fill };
	mutex_unlock(&u->lock);
	if (oldest)
		let_go(oldest);
}

/* One of those that were opened before `ino`, which is marked. */
static struct fill_file *take_opened(struct unread *u, uint64_t ino)
{
	struct fill_file *fill = NULL;

	mutex_lock(&u->lock);
	for (unsigned i = 0; i < u->n && !fill; i++) {
		if (u->entry[i].ino == ino)
			u->entry[i].opened = true;
		else if (u->entry[i].opened)
			fill = take_locked(u, i);
	}
	mutex_unlock(&u->lock);
	return fill;
}

void unread_opened(struct unread *u, uint64_t ino)
{
	struct fill_file *fill;

	while (atomic_load(&u->n) && (fill = take_opened(u, ino)))
		let_go(fill);
}

void unread_clear(struct unread *u)
{
	struct fill_file *fill;

	do {
		mutex_lock(&u->lock);
		fill = u->n ? take_locked(u, 0) : NULL;
		mutex_unlock(&u->lock);
		if (fill)
			let_go(fill);
	} while (fill);
}

void unread_destroy(struct unread *u)
{
	unread_clear(u);
	mutex_release(&u->lock);
	free(u->entry);
	free(u);
}
