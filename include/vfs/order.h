/*
 * A folder's names from the cache, in the order in which R2 lists them.
 *
 * R2 sorts keys, and a folder's key ends in a slash: `a-b` comes before the
 * folder `a`, though the name is greater. A handle that reads a listing of R2
 * first and the cache later must meet them in one order, so that a key tells
 * what was given already. (An object shown under VFS_OBJECT_SUFFIX stands where
 * that name would.)
 *
 * Thread-safe.
 */
#ifndef VFS_ORDER_H
#define VFS_ORDER_H

#include "cache/meta.h"

enum { ORDER_KEY_MAX = CACHE_NAME_MAX + 2 }; /* a name, a slash, NUL */

void order_key(const struct meta_entry *e, char ret[ORDER_KEY_MAX]);
/* As strcmp of the keys. */
int order_compare(const struct meta_entry *e, const char *key);

/*
 * About max entries, one at least, whose keys come after `after` ("": from the
 * start), which moves on to the key up to which all were given. The count, 0
 * at the end, or -errno; gives *ret, of which each entry is to be released.
 */
MUST_CHECK int order_list(struct meta *m, uint64_t ino,
			  char after[ORDER_KEY_MAX], unsigned max,
			  struct meta_entry **ret);

#endif
