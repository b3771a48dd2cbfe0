/*
 * One listing of one directory, shared by everybody who needs it.
 *
 * A scan pulls LIST pages when somebody asks for the next one; pages form a
 * chain that readers walk at their own speed, each holding a reference on the
 * page it stands on. A newcomer joins while the first page is still held;
 * later, or if this mount changed names since, it gets a scan of its own. When
 * the last page has been merged into the cache, the directory is complete and
 * the scan leaves the inode; not if its keys were moving meanwhile.
 */
#ifndef VFS_SCAN_H
#define VFS_SCAN_H

#include "vfs/inode.h"

struct scan_page {
	unsigned refs; /* guarded by the scan's lock */
	struct scan_page *next; /* holds a reference */
	bool last;
	uint64_t changes; /* meta_changes when it was asked for */
	unsigned n;
	struct meta_entry *entries;
	bool *shown; /* false: the name was already given by an earlier page */
};

/* The directory's scan, joined if it is younger than what the cache would be
 * believed of, or begun; adds a reference. */
struct scan *scan_join(struct vfs *v, struct inode *dir);
void scan_put(struct vfs *v, struct scan *s);

/*
 * Moves *page (NULL: before the first) to the next page, pulling it from R2
 * if nobody has; the reference moves along. 0 with *page unchanged and *end
 * set: there is none. -ESTALE: this reader fell so far behind the others that
 * its next page is gone; it must begin again with a new scan. `probe` (may be
 * NULL) receives the request for the caller to look at and release.
 */
MUST_CHECK int scan_next(struct vfs *v, const struct vfs_ctx *ctx,
			 struct scan *s, struct scan_page **page, bool *end,
			 struct store_req *probe);
struct scan_page *scan_page_ref(struct scan *s, struct scan_page *page);
void scan_page_put(struct scan *s, struct scan_page *page); /* NULL is fine */

struct scan_result {
	bool complete; /* every page was seen */
	bool merged; /* and all of them are in the cache */
	bool found; /* a page had the name */
	int64_t started_ns; /* nothing was asked before */
	struct meta_rec rec; /* found: as the page had it, without its blob */
};

/* Pulls up to max_pages more pages, to the end at most, without keeping them,
 * and looks for name in them: the cache may have been unable to keep a page,
 * so what it lacks afterwards proves nothing. flat: the first page, unless
 * somebody has it already, is asked for without grouping, so that folders below
 * come with it (vfs/level.h), not where that was in vain before; and the page
 * that has the name is the last. */
MUST_CHECK int scan_advance(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *dir, unsigned max_pages,
			    const char *name, bool flat,
			    struct scan_result *ret);

/* Directory ino (in memory or not) was listed to its end by a request made at
 * asked_ns, which is in the cache. */
void dir_complete(struct vfs *v, uint64_t ino, int64_t asked_ns,
		  uint64_t hidden);

#endif
