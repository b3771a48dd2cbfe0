/*
 * One folder's entries, cut out of a LIST page.
 *
 * A page grouped by '/' shows one folder. A flat one shows a thousand keys
 * below it, so most of the folders below come whole with it: for those the
 * kernel walks through next (the chunks of an array, c/0/0/0) nothing has to
 * be asked any more.
 *
 * Not thread-safe; a level belongs to the call that makes it.
 */
#ifndef VFS_LEVEL_H
#define VFS_LEVEL_H

#include "vfs/inode.h"

struct level {
	unsigned n, max;
	struct meta_entry *entries; /* owned */
	struct level_run *runs; /* of each entry, the page's that make it */
	uint64_t hidden; /* names that cannot be shown */
};

/* What a level is cut from: borrowed, sorted by bytes. */
struct level_page {
	const struct store_list *list;
	int64_t asked_ns; /* wall time; what changed since is newer */
};

/* Do the keys ascend by bytes? Only then is what lies between two of one
 * folder of that folder, and nothing missing. */
bool level_sorted(const struct store_list *list);
/* A grouped page has its objects first and then its folders. */
void level_sort(struct store_list *list);

/* Drops what does not begin with prefix, which no server should send. */
void level_below(struct store_list *list, const char *prefix);

/* A number for "no folder was renamed since", 0 while one is: what moves is in
 * neither folder for a moment, and a page asked for meanwhile shows no folder
 * whole. */
uint64_t folder_moves(struct vfs *v);

/* The entries of the folder whose key, with its slash, has `skip` bytes, out
 * of [first, end) of the page, all of which lie below it. There is room for
 * one entry more for each. Release it. */
void level_cut(struct level *l, const struct level_page *page, unsigned first,
	       unsigned end, size_t skip);
void level_release(struct level *l);

/* Shows entry i, a file, under VFS_OBJECT_SUFFIX; false: the name would be too
 * long. */
bool level_shadow(struct level *l, unsigned i);
/* Entry i is a folder: a file of the same name before it is shadowed. False:
 * there is none. */
bool level_settle(struct level *l, unsigned i);

/* Puts into the cache what the page shows of the folders below l, whose entries
 * are in the cache and have their numbers. A folder of which the cache knows
 * anything is left alone. */
void level_keep_below(struct vfs *v, const struct level *l,
		      const struct level_page *page, size_t skip);

#endif
