/*
 * Between names and object keys. Pure.
 */
#ifndef VFS_KEY_H
#define VFS_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "store/store.h"

/* May n bytes be shown as a directory entry? */
bool key_name_ok(const char *name, size_t n);

/* name ends in VFS_OBJECT_SUFFIX with something before it? Returns the length
 * of that, else 0. */
size_t key_object_suffix(const char *name);

/* What x-amz-meta-* say of a file, in the spellings of s3fs and rclone. */
struct key_meta {
	bool has_mode, has_uid, has_gid, has_mtime, has_ctime, has_atime;
	mode_t mode; /* with the type bits when known, else 0 type */
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns, ctime_ns, atime_ns;
};

/* Is the pair one that stat shows (mode, owner, times)? */
bool key_meta_is_attribute(const char *name);

void key_meta_parse(const struct store_meta *meta, struct key_meta *ret);

/* The pairs as bytes for the cache (name NUL value NUL ...), and back. */
void key_meta_pack(const struct store_meta *meta, void **ret,
		   uint32_t *ret_len);
MUST_CHECK int key_meta_unpack(const void *blob, uint32_t len,
			       struct store_meta *ret);

#endif
