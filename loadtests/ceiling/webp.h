/*
 * Takes out of a WebP what libvips should not have put in.
 */

#ifndef WEBP_H
#define WEBP_H

#include "loop.h"

/* Before 8.15, libvips writes an EXIF block into each WebP, told to strip or not; the edge takes it out again. Here that
 * is done once, after the clock has stopped (RFC 9649, section 2). */
static inline void
drop_webp_metadata(struct bytes *file)
{
	enum { RIFF_HEAD = 12, CHUNK_HEAD = 8, FLAG_ANIMATION = 0x02, FLAG_ALPHA = 0x10 };
	guint8 *data = file->data;
	size_t from = RIFF_HEAD, to = RIFF_HEAD;
	guint32 size;

	while (from + CHUNK_HEAD <= file->length) {
		guint8 *chunk = data + from;
		size_t whole;
		int keep = 1;

		memcpy(&size, chunk + 4, sizeof size);
		/* A chunk of odd length is followed by one byte of padding. */
		whole = CHUNK_HEAD + (size_t) GUINT32_FROM_LE(size) + (GUINT32_FROM_LE(size) & 1);
		if (whole <= CHUNK_HEAD || whole > file->length - from)
			die("the WebP is malformed");
		if (!memcmp(chunk, "EXIF", 4) || !memcmp(chunk, "XMP ", 4) || !memcmp(chunk, "ICCP", 4))
			keep = 0;
		else if (!memcmp(chunk, "VP8X", 4)) {
			chunk[CHUNK_HEAD] &= FLAG_ALPHA | FLAG_ANIMATION;
			keep = chunk[CHUNK_HEAD] != 0;
		}
		if (keep) {
			memmove(data + to, chunk, whole);
			to += whole;
		}
		from += whole;
	}
	file->length = to;
	size = GUINT32_TO_LE((guint32) (to - CHUNK_HEAD));
	memcpy(data + 4, &size, sizeof size);
}

#endif
