/*
 * A bucket of ten million objects must fit in about a gigabyte of database,
 * so a dentry is packed: what is zero is left out, times on a whole
 * millisecond (all that LIST gives) are stored as such, and an ETag of 32 hex
 * digits with or without "-N" takes 16 bytes and a varint. A generic format
 * (CBOR, a C struct) would be two to four times as long, and a struct would
 * tie the file to one compiler.
 *
 *   dentry   | version kind | flags | form | ino | gen | checked | size?
 *            | mtime? | cid? | etag? | blob? |
 *   form     bits 0-1 etag: none, packed, packed "-N", text; the others say
 *            which of size, mtime, cid and blob follow and whether a time is
 *            in nanoseconds
 *   extent   | version form | epoch | pages | bitmap? | crc LE32... |
 *   form     bitmap is: block 0 only, all 64, or 8 bytes LE
 */
#include "cache/record.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 2 << 4, VERSION_MASK = 0xF0, DIR_CHANGED = 1 };

enum dentry_form {
	ETAG_NONE = 0,
	ETAG_MD5 = 1,
	ETAG_PARTS = 2,
	ETAG_TEXT = 3,
	ETAG_MASK = 3,
	HAS_SIZE = 1 << 2,
	HAS_MTIME = 1 << 3,
	HAS_CID = 1 << 4,
	HAS_BLOB = 1 << 5,
	MTIME_NS = 1 << 6,
	CHECKED_NS = 1 << 7,
};

enum bitmap_form { BITMAP_FIRST, BITMAP_ALL, BITMAP_BYTES };

enum { MD5_HEX = 32, MD5_BYTES = 16, NS_PER_MS = 1000000 };

static void put_varint(struct buf *out, uint64_t x)
{
	for (; x >= 0x80; x >>= 7)
		buf_addch(out, (char)(x | 0x80));
	buf_addch(out, (char)x);
}

static void put_signed(struct buf *out, int64_t x)
{
	put_varint(out, (uint64_t)x << 1 ^ (uint64_t)(x >> 63));
}

struct in {
	const uint8_t *p, *end;
	bool bad;
};

static uint8_t get_byte(struct in *in)
{
	if (in->p == in->end) {
		in->bad = true;
		return 0;
	}
	return *in->p++;
}

static const uint8_t *get_bytes(struct in *in, size_t n)
{
	const uint8_t *p = in->p;

	if ((size_t)(in->end - in->p) < n) {
		in->bad = true;
		return NULL;
	}
	in->p += n;
	return p;
}

static uint64_t get_varint(struct in *in)
{
	uint64_t x = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t b = get_byte(in);

		if (shift == 63 && b > 1)
			break;
		x |= (uint64_t)(b & 0x7F) << shift;
		if (!(b & 0x80)) {
			if (!b && shift)
				break;
			return x;
		}
	}
	in->bad = true;
	return 0;
}

static int64_t get_signed(struct in *in)
{
	uint64_t x = get_varint(in);

	return (int64_t)(x >> 1 ^ -(x & 1));
}

static uint32_t get_u32(struct in *in)
{
	uint64_t x = get_varint(in);

	if (x > UINT32_MAX)
		in->bad = true;
	return (uint32_t)x;
}

static int finish(const struct in *in)
{
	return in->bad || in->p != in->end ? -EBADMSG : 0;
}

/* ---- ETag ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* "-N" with 0 < N < 10^9 and no leading zero; 0 if it is not that. */
static uint32_t parse_parts(const char *s)
{
	uint32_t n = 0;

	if (s[0] != '-' || s[1] == '0' || strlen(s) > 10)
		return 0;
	for (s++; *s; s++) {
		if (*s < '0' || *s > '9')
			return 0;
		n = n * 10 + (uint32_t)(*s - '0');
	}
	return n;
}

static uint8_t etag_form(const char *etag)
{
	size_t n = 0;

	if (!*etag)
		return ETAG_NONE;
	while (hex_digit(etag[n]) >= 0)
		n++;
	if (n != MD5_HEX)
		return ETAG_TEXT;
	if (!etag[n])
		return ETAG_MD5;
	return parse_parts(etag + n) ? ETAG_PARTS : ETAG_TEXT;
}

static void put_etag(struct buf *out, const char *etag, uint8_t form)
{
	uint8_t md5[MD5_BYTES];
	size_t len;

	if (form == ETAG_NONE)
		return;
	if (form == ETAG_TEXT) {
		len = strlen(etag);
		buf_addch(out, (char)len);
		buf_add(out, etag, len);
		return;
	}
	for (int i = 0; i < MD5_BYTES; i++)
		md5[i] = (uint8_t)(hex_digit(etag[2 * i]) << 4 |
				   hex_digit(etag[2 * i + 1]));
	buf_add(out, md5, sizeof(md5));
	if (form == ETAG_PARTS)
		put_varint(out, parse_parts(etag + MD5_HEX));
}

static void get_etag_text(struct in *in, char *etag)
{
	size_t len = get_byte(in);
	const uint8_t *p = get_bytes(in, len);

	if (!p || !len || len >= CACHE_ETAG_MAX || memchr(p, 0, len)) {
		in->bad = true;
		return;
	}
	memcpy(etag, p, len);
	etag[len] = 0;
	if (etag_form(etag) != ETAG_TEXT)
		in->bad = true;
}

/* Decimal by hand: this runs for every name of every listing. */
static void add_parts(char *to, uint32_t n)
{
	char digits[12];
	int i = sizeof(digits);

	digits[--i] = 0;
	for (; n; n /= 10)
		digits[--i] = (char)('0' + n % 10);
	digits[--i] = '-';
	memcpy(to, digits + i, sizeof(digits) - (size_t)i);
}

static void get_etag(struct in *in, char *etag, uint8_t form)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *p;
	uint32_t n;

	if (form == ETAG_NONE)
		return;
	if (form == ETAG_TEXT) {
		get_etag_text(in, etag);
		return;
	}
	p = get_bytes(in, MD5_BYTES);
	if (!p)
		return;
	for (int i = 0; i < MD5_BYTES; i++) {
		etag[2 * i] = hex[p[i] >> 4];
		etag[2 * i + 1] = hex[p[i] & 15];
	}
	etag[MD5_HEX] = 0;
	if (form != ETAG_PARTS)
		return;
	n = get_u32(in);
	if (!n || n > 999999999)
		in->bad = true;
	else
		add_parts(etag + MD5_HEX, n);
}

/* ---- dentry ---- */

static bool whole_ms(int64_t ns)
{
	return ns % NS_PER_MS == 0;
}

static void put_time(struct buf *out, int64_t ns)
{
	put_signed(out, whole_ms(ns) ? ns / NS_PER_MS : ns);
}

static int64_t get_time(struct in *in, bool in_ns)
{
	int64_t t = get_signed(in);

	if (in_ns) {
		in->bad |= whole_ms(t);
		return t;
	}
	if (t > INT64_MAX / NS_PER_MS || t < INT64_MIN / NS_PER_MS) {
		in->bad = true;
		return 0;
	}
	return t * NS_PER_MS;
}

static uint8_t dentry_form(const struct meta_rec *rec)
{
	return (uint8_t)(etag_form(rec->etag) | (rec->size ? HAS_SIZE : 0) |
			 (rec->mtime_ns ? HAS_MTIME : 0) |
			 (rec->cid ? HAS_CID : 0) |
			 (rec->blob_len ? HAS_BLOB : 0) |
			 (whole_ms(rec->mtime_ns) ? 0 : MTIME_NS) |
			 (whole_ms(rec->checked_ns) ? 0 : CHECKED_NS));
}

void record_dentry_encode(struct buf *out, const struct meta_rec *rec,
			  uint32_t gen)
{
	uint8_t form = dentry_form(rec);

	buf_addch(out, (char)(VERSION | rec->kind));
	buf_addch(out, (char)rec->flags);
	buf_addch(out, (char)form);
	put_varint(out, rec->ino);
	put_varint(out, gen);
	put_time(out, rec->checked_ns);
	if (form & HAS_SIZE)
		put_varint(out, rec->size);
	if (form & HAS_MTIME)
		put_time(out, rec->mtime_ns);
	if (form & HAS_CID)
		put_varint(out, rec->cid);
	put_etag(out, rec->etag, form & ETAG_MASK);
	if (rec->blob_len > RECORD_BLOB_MAX)
		out->failed = true;
	if (!(form & HAS_BLOB) || out->failed)
		return;
	put_varint(out, rec->blob_len);
	buf_add(out, rec->blob, rec->blob_len);
}

static void get_blob(struct in *in, struct meta_rec *rec)
{
	uint32_t len = get_u32(in);
	const uint8_t *p = get_bytes(in, len);

	if (!p || !len || len > RECORD_BLOB_MAX) {
		in->bad = true;
		return;
	}
	rec->blob = xmalloc(len);
	memcpy(rec->blob, p, len);
	rec->blob_len = len;
}

static uint8_t get_head(struct in *in, uint8_t max)
{
	uint8_t b = get_byte(in);

	if ((b & VERSION_MASK) != VERSION || (b & ~VERSION_MASK) > max)
		in->bad = true;
	return b & (uint8_t)~VERSION_MASK;
}

static uint64_t get_nonzero(struct in *in)
{
	uint64_t x = get_varint(in);

	in->bad |= !x;
	return x;
}

static void get_dentry(struct in *in, struct meta_rec *rec, uint32_t *gen)
{
	uint8_t form;

	rec->kind = get_head(in, META_DIR);
	rec->flags = get_byte(in);
	form = get_byte(in);
	rec->ino = get_varint(in);
	*gen = get_u32(in);
	rec->checked_ns = get_time(in, form & CHECKED_NS);
	if (form & HAS_SIZE)
		rec->size = get_nonzero(in);
	if (form & HAS_MTIME) {
		rec->mtime_ns = get_time(in, form & MTIME_NS);
		in->bad |= !rec->mtime_ns;
	} else if (form & MTIME_NS) {
		in->bad = true;
	}
	if (form & HAS_CID)
		rec->cid = get_nonzero(in);
	get_etag(in, rec->etag, form & ETAG_MASK);
	if (form & HAS_BLOB && !in->bad)
		get_blob(in, rec);
}

int record_dentry_decode(const void *p, size_t n, struct meta_rec *rec,
			 uint32_t *gen)
{
	struct in in = { p, (const uint8_t *)p + n, false };

	memset(rec, 0, sizeof(*rec));
	get_dentry(&in, rec, gen);
	if (!finish(&in))
		return 0;
	free(rec->blob);
	memset(rec, 0, sizeof(*rec));
	return -EBADMSG;
}

int record_dentry_peek(const void *p, size_t n, struct record_peek *ret)
{
	struct in in = { p, (const uint8_t *)p + n, false };
	uint8_t form;

	ret->kind = get_head(&in, META_DIR);
	ret->flags = get_byte(&in);
	form = get_byte(&in);
	ret->ino = get_varint(&in);
	ret->gen = get_u32(&in);
	ret->checked_ns = get_time(&in, form & CHECKED_NS);
	return in.bad ? -EBADMSG : 0;
}

/* ---- directory ---- */

void record_dir_encode(struct buf *out, const struct record_dir *d)
{
	buf_addch(out, (char)(VERSION | (d->dir.changed_ns ? DIR_CHANGED : 0)));
	put_signed(out, d->dir.complete_ns);
	put_varint(out, d->dir.entries);
	put_varint(out, d->dir.hidden);
	put_varint(out, d->gen);
	if (d->dir.changed_ns)
		put_signed(out, d->dir.changed_ns);
}

int record_dir_decode(const void *p, size_t n, struct record_dir *d)
{
	struct in in = { p, (const uint8_t *)p + n, false };
	uint8_t form = get_head(&in, DIR_CHANGED);

	memset(d, 0, sizeof(*d));
	d->dir.complete_ns = get_signed(&in);
	d->dir.entries = get_varint(&in);
	d->dir.hidden = get_varint(&in);
	d->gen = get_u32(&in);
	if (form & DIR_CHANGED) {
		d->dir.changed_ns = get_signed(&in);
		in.bad |= !d->dir.changed_ns;
	}
	return finish(&in);
}

/* ---- extent ---- */

static uint8_t bitmap_form(uint64_t present)
{
	if (present == 1)
		return BITMAP_FIRST;
	return present == UINT64_MAX ? BITMAP_ALL : BITMAP_BYTES;
}

static void put_le(struct buf *out, uint64_t x, int n)
{
	for (; n; n--, x >>= 8)
		buf_addch(out, (char)x);
}

static uint64_t get_le(struct in *in, int n)
{
	const uint8_t *p = get_bytes(in, (size_t)n);
	uint64_t x = 0;

	while (p && n)
		x = x << 8 | p[--n];
	return x;
}

void record_extent_encode(struct buf *out, const struct record_extent *e)
{
	uint8_t form = bitmap_form(e->present);

	buf_addch(out, (char)(VERSION | form));
	put_varint(out, e->epoch);
	put_varint(out, e->pages);
	if (form == BITMAP_BYTES)
		put_le(out, e->present, 8);
	for (int i = 0; i < EXTENT_BLOCKS; i++)
		if (e->present >> i & 1)
			put_le(out, e->crc[i], 4);
}

int record_extent_decode(const void *p, size_t n, struct record_extent *e)
{
	struct in in = { p, (const uint8_t *)p + n, false };
	uint8_t form;

	memset(e, 0, sizeof(*e));
	form = get_head(&in, BITMAP_BYTES);
	e->epoch = get_varint(&in);
	e->pages = get_u32(&in);
	if (form == BITMAP_BYTES)
		e->present = get_le(&in, 8);
	else
		e->present = form == BITMAP_ALL ? UINT64_MAX : 1;
	if (bitmap_form(e->present) != form || !e->present || !e->pages ||
	    e->pages > CACHE_EXTENT / 4096)
		in.bad = true;
	for (int i = 0; i < EXTENT_BLOCKS && !in.bad; i++)
		if (e->present >> i & 1)
			e->crc[i] = (uint32_t)get_le(&in, 4);
	return finish(&in);
}

int record_extent_peek(const void *p, size_t n, uint32_t *pages)
{
	struct in in = { p, (const uint8_t *)p + n, false };

	get_head(&in, BITMAP_BYTES);
	get_varint(&in);
	*pages = get_u32(&in);
	return in.bad || !*pages || *pages > CACHE_EXTENT / 4096 ? -EBADMSG : 0;
}

/* ---- state ---- */

static void put_text(struct buf *out, const char *s)
{
	put_varint(out, strlen(s));
	buf_addstr(out, s);
}

static void get_text(struct in *in, char *s, size_t max)
{
	uint64_t n = get_varint(in);
	const uint8_t *p = n < max ? get_bytes(in, n) : NULL;

	if (!p || memchr(p, 0, n)) {
		in->bad = true;
		return;
	}
	memcpy(s, p, n);
	s[n] = 0;
}

void record_state_encode(struct buf *out, const struct record_state *s)
{
	buf_addch(out, (char)(VERSION | s->clean | s->writable << 1 |
			      s->damaged << 2));
	put_signed(out, s->distrust_ns);
	put_varint(out, s->epoch);
	put_varint(out, s->next_ino);
	put_varint(out, s->next_cid);
	put_text(out, s->boot_id);
	put_text(out, s->identity);
}

int record_state_decode(const void *p, size_t n, struct record_state *s)
{
	struct in in = { p, (const uint8_t *)p + n, false };

	memset(s, 0, sizeof(*s));
	uint8_t flags = get_head(&in, 7);

	s->clean = flags & 1;
	s->writable = flags & 2;
	s->damaged = flags & 4;
	s->distrust_ns = get_signed(&in);
	s->epoch = get_varint(&in);
	s->next_ino = get_varint(&in);
	s->next_cid = get_varint(&in);
	get_text(&in, s->boot_id, sizeof(s->boot_id));
	get_text(&in, s->identity, sizeof(s->identity));
	return finish(&in);
}
