/*
 * The other spelling of a name.
 *
 * R2 takes names that are canonically equal (Unicode NFC and NFD) for one key
 * and shows the spelling that was stored last. To the kernel they are two
 * names. If both were shown, or had an inode each, one object would look like
 * two files, and writing the second would replace the first. So a folder has
 * such a name once: under the other spelling it is found, too.
 *
 * Of a name the two normal forms are looked for; files come in one of them.
 * Only names outside ASCII pay.
 */
#include "vfs/spelling.h"

#include <stdlib.h>
#include <string.h>
#include <uninorm.h>

static bool ascii(const char *s)
{
	while (*s && (unsigned char)*s < 0x80)
		s++;
	return !*s;
}

static bool is_there(struct vfs *v, struct inode *dir, const char *name)
{
	struct meta_rec rec;

	if (meta_get(v->meta, dir->ino, name, &rec))
		return false;
	meta_rec_release(&rec);
	return rec.kind != META_ABSENT;
}

static bool find(struct vfs *v, struct inode *dir, const char *name,
		 uninorm_t form, char ret[CACHE_NAME_MAX + 1])
{
	size_t n = CACHE_NAME_MAX;
	uint8_t *s = (uint8_t *)ret, *got;

	got = u8_normalize(form, (const uint8_t *)name, strlen(name), s, &n);
	if (got != s) {
		free(got); /* too long for a name */
		return false;
	}
	ret[n] = 0;
	return is_there(v, dir, ret);
}

const char *name_spelling(struct vfs *v, struct inode *dir, const char *name,
			  char space[CACHE_NAME_MAX + 1])
{
	if (ascii(name) || strlen(name) > CACHE_NAME_MAX ||
	    is_there(v, dir, name))
		return name;
	if (find(v, dir, name, UNINORM_NFC, space) ||
	    find(v, dir, name, UNINORM_NFD, space))
		return space;
	return name;
}
