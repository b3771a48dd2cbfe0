/*
 * LMDB trusts its file: a page that a bad disk or a stray program changed makes
 * it read outside of the mapping or abort, and the daemon with it, at every
 * start again. So the tree is walked before, with every number checked that
 * LMDB would follow: page numbers, depths, offsets, sizes, the lists of free
 * pages, and that no page has two owners. What it does not find is a changed
 * key or value of the right length; records have their own check.
 *
 * The layout is that of LMDB 0.9 (version 1 of its data format) on 64 bits:
 *
 *   page    pgno:8 pad:2 flags:2 lower:2 upper:2 | offsets:2... free nodes
 *   first of an overflow:  pgno:8 pad:2 flags:2 pages:4 | data
 *   node    lo:2 hi:2 flags:2 ksize:2 key data     data size or child in lo, hi
 *   meta    (after a page head) magic:4 version:4 address:8 mapsize:8
 *           free:48 main:48 last page:8 transaction:8
 *   tree    pad:4 flags:2 depth:2 branches:8 leaves:8 overflows:8 entries:8
 *           root:8                                  pad of `free`: page size
 */
#include "cache/kv_check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	HEAD = 16,
	NODE = 8,
	TREE = 48,
	META = 136,
	BRANCH = 1,
	LEAF = 2,
	OVERFLOW = 4,
	ROOT_PAGE = 8,
	PASSING = 0xC010, /* flags that mean nothing on disk */
	BIG = 1, /* data lies in overflow pages */
	SUBTREE = 2,
	INTEGER_KEY = 8,
	TREE_FLAGS =
		0xFF, /* the rest of the free tree's are the environment's */
	DEPTH_MAX = 32,
	KEY_MAX = 511,
};

static const uint32_t MAGIC = 0xBEEFC0DE;
static const uint64_t NO_ROOT = UINT64_MAX;

struct check {
	const uint8_t *map;
	uint64_t pages; /* of the file */
	uint32_t page_size;
	uint8_t *owned; /* a bit for each page */
};

static uint64_t get(const uint8_t *p, unsigned n)
{
	uint64_t x = 0;

	while (n)
		x = x << 8 | p[--n];
	return x;
}

static const uint8_t *page_at(const struct check *c, uint64_t pgno)
{
	return c->map + pgno * c->page_size;
}

/* Pages must lie in the file, and have one owner. */
static bool own(struct check *c, uint64_t pgno, uint64_t n)
{
	if (pgno < 2 || pgno >= c->pages || n > c->pages - pgno)
		return false;
	for (uint64_t i = pgno; i < pgno + n; i++) {
		if (c->owned[i / 8] >> (i % 8) & 1)
			return false;
		c->owned[i / 8] |= (uint8_t)(1 << i % 8);
	}
	return true;
}

static bool is_page(const struct check *c, uint64_t pgno, unsigned flags)
{
	const uint8_t *p = page_at(c, pgno);

	return get(p, 8) == pgno && (get(p + 10, 2) & ~PASSING) == flags;
}

struct node {
	unsigned flags, ksize;
	uint64_t size; /* of the data */
	const uint8_t *data;
};

typedef bool (*leaf_fn)(struct check *c, const struct node *n);

static bool check_overflow(struct check *c, struct node *n)
{
	uint64_t pgno = get(n->data, 8), pages;

	if (pgno >= c->pages || !is_page(c, pgno, OVERFLOW))
		return false;
	pages = get(page_at(c, pgno) + 12, 4);
	n->data = page_at(c, pgno) + HEAD;
	return pages == (HEAD - 1 + n->size) / c->page_size + 1 &&
	       own(c, pgno, pages);
}

/* A node of a leaf; *used is the room it takes in its page. */
static bool check_leaf(struct check *c, const uint8_t *p, uint64_t room,
		       leaf_fn fn, uint64_t *used)
{
	struct node n = { .flags = (unsigned)get(p + 4, 2),
			  .ksize = (unsigned)get(p + 6, 2),
			  .size = get(p, 4) };

	if (n.flags & ~(unsigned)(BIG | SUBTREE) || !n.ksize ||
	    n.ksize > KEY_MAX)
		return false;
	*used = NODE + n.ksize + (n.flags & BIG ? 8 : n.size);
	if (*used > room)
		return false;
	n.data = p + NODE + n.ksize;
	if (n.flags & BIG && !check_overflow(c, &n))
		return false;
	return fn(c, &n);
}

static bool check_page(struct check *c, uint64_t pgno, unsigned levels,
		       leaf_fn fn);

static bool check_branch(struct check *c, const uint8_t *p, uint64_t room,
			 unsigned levels, leaf_fn fn, uint64_t *used)
{
	*used = NODE + get(p + 6, 2);
	return *used <= room && get(p + 6, 2) <= KEY_MAX &&
	       check_page(c, get(p, 6), levels - 1, fn);
}

/* levels: 1 for a leaf. */
static bool check_page(struct check *c, uint64_t pgno, unsigned levels,
		       leaf_fn fn)
{
	const uint8_t *p;
	uint64_t lower, upper, used, sum = 0;

	if (!own(c, pgno, 1) || !is_page(c, pgno, levels > 1 ? BRANCH : LEAF))
		return false;
	p = page_at(c, pgno);
	lower = get(p + 12, 2);
	upper = get(p + 14, 2);
	if (lower % 2 || lower < HEAD + (levels > 1 ? 4 : 2) || lower > upper ||
	    upper > c->page_size)
		return false;
	for (uint64_t at = HEAD; at < lower; at += 2) {
		uint64_t ptr = get(p + at, 2);

		if (ptr < upper || ptr % 2 || ptr + NODE > c->page_size)
			return false;
		if (!(levels > 1 ? check_branch(c, p + ptr, c->page_size - ptr,
						levels, fn, &used) :
				   check_leaf(c, p + ptr, c->page_size - ptr,
					      fn, &used)))
			return false;
		sum += used + used % 2;
	}
	return sum == c->page_size - upper;
}

static bool check_tree(struct check *c, const uint8_t *tree, unsigned flags,
		       leaf_fn fn)
{
	uint64_t depth = get(tree + 6, 2), root = get(tree + 40, 8);

	if ((get(tree + 4, 2) & TREE_FLAGS) != flags)
		return false;
	if (root == NO_ROOT)
		return depth == 0;
	return depth > 0 && depth <= DEPTH_MAX &&
	       check_page(c, root, (unsigned)depth, fn);
}

static bool is_value(struct check *c, const struct node *n)
{
	return !(n->flags & SUBTREE);
}

static bool is_table(struct check *c, const struct node *n)
{
	return n->flags == SUBTREE && n->size == TREE &&
	       check_tree(c, n->data, 0, is_value);
}

/* A count and as many page numbers, the highest first. */
static bool is_free_list(struct check *c, const struct node *n)
{
	uint64_t count, last = c->pages;

	if (n->flags & SUBTREE || n->ksize != 8 || n->size < 8 || n->size % 8)
		return false;
	count = get(n->data, 8);
	if (count > n->size / 8 - 1)
		return false;
	for (uint64_t i = 1; i <= count; i++) {
		uint64_t pgno = get(n->data + i * 8, 8);

		if (pgno >= last || !own(c, pgno, 1))
			return false;
		last = pgno;
	}
	return true;
}

static bool is_meta(const uint8_t *p)
{
	return (get(p + 10, 2) & ~PASSING) == ROOT_PAGE &&
	       get(p + HEAD, 4) == MAGIC && get(p + HEAD + 4, 4) == 1;
}

/* Another layout, whether LMDB's or this machine's, is LMDB's to judge. */
static bool is_known_layout(const uint8_t *map)
{
	bool native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ &&
		      sizeof(size_t) == 8;

	return native &&
	       !(get(map + HEAD, 4) == MAGIC && get(map + HEAD + 4, 4) > 1 &&
		 get(map + HEAD + 4, 4) < 1000);
}

static bool check_file(struct check *c, uint64_t bytes)
{
	const uint8_t *meta[2] = { c->map + HEAD, NULL }, *m;
	bool sound;

	c->page_size = (uint32_t)get(meta[0] + 24, 4);
	if (!is_meta(c->map) || c->page_size < 4096 || c->page_size > 32768 ||
	    c->page_size & (c->page_size - 1) || bytes < 2 * c->page_size ||
	    !is_meta(c->map + c->page_size))
		return false;
	meta[1] = c->map + c->page_size + HEAD;
	m = meta[get(meta[1] + 128, 8) > get(meta[0] + 128, 8)];
	if (get(m + 24, 4) != c->page_size)
		return false;
	c->pages = get(m + 120, 8) + 1;
	if (c->pages < 2 || c->pages > bytes / c->page_size)
		return get(m + 128, 8) == 0; /* nothing was written yet */
	c->owned = xcalloc(c->pages / 8 + 1, 1);
	sound = check_tree(c, m + 24, INTEGER_KEY, is_free_list) &&
		check_tree(c, m + 24 + TREE, 0, is_table);
	free(c->owned);
	return sound;
}

int kv_check(const char *path)
{
	struct check c = { .owned = NULL };
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat st;
	void *map;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		err = -EUCLEAN;
	if (err || st.st_size < HEAD + META) {
		close(fd);
		return err;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return -errno;
	c.map = map;
	if (is_known_layout(map) && !check_file(&c, (uint64_t)st.st_size))
		err = -EUCLEAN;
	munmap(map, (size_t)st.st_size);
	return err;
}
