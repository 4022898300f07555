/* Reads plain JPEGs row by row. In C, because libjpeg's structures differ between its builds, and because it tells errors
 * by calling a function that must not return. Anything unusual, and any warning, is a failure: the caller has another way. */

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

struct calotype_jpeg {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	jmp_buf failed;
};

static void on_error(j_common_ptr common)
{
	struct calotype_jpeg *reader = common->client_data;
	longjmp(reader->failed, 1);
}

static void on_message(j_common_ptr common, int level)
{
	/* Below zero are warnings: what follows may be damaged. */
	if (level < 0)
		on_error(common);
}

static void on_output(j_common_ptr common)
{
	(void) common;
}

void calotype_jpeg_close(struct calotype_jpeg *reader)
{
	jpeg_destroy_decompress(&reader->jpeg);
	free(reader);
}

static int is_plain(const struct jpeg_decompress_struct *jpeg)
{
	return !jpeg->progressive_mode && !jpeg->arith_code && jpeg->data_precision == 8 &&
		((jpeg->num_components == 1 && jpeg->jpeg_color_space == JCS_GRAYSCALE) ||
			(jpeg->num_components == 3 && jpeg->jpeg_color_space == JCS_YCbCr));
}

/* Reads the header and gets ready for the first row. 0 if it is no plain JPEG. */
static int start(
	struct calotype_jpeg *reader, const unsigned char *bytes, unsigned long length, unsigned int denominator)
{
	if (setjmp(reader->failed))
		return 0;
	jpeg_create_decompress(&reader->jpeg);
	jpeg_mem_src(&reader->jpeg, (unsigned char *) bytes, length);
	if (jpeg_read_header(&reader->jpeg, TRUE) != JPEG_HEADER_OK || !is_plain(&reader->jpeg))
		return 0;
	reader->jpeg.scale_num = 1;
	reader->jpeg.scale_denom = denominator;
	reader->jpeg.out_color_space = reader->jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
	return jpeg_start_decompress(&reader->jpeg);
}

/* Opens `length` bytes, shrunk by 1, 2, 4 or 8. Tells the width, the height and the channels of what is read. NULL if it is
 * no plain JPEG. */
struct calotype_jpeg *calotype_jpeg_open(
	const unsigned char *bytes, unsigned long length, unsigned int denominator, unsigned int shape[3])
{
	struct calotype_jpeg *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->jpeg.err = jpeg_std_error(&reader->errors);
	reader->jpeg.client_data = reader;
	reader->errors.error_exit = on_error;
	reader->errors.emit_message = on_message;
	reader->errors.output_message = on_output;
	if (!start(reader, bytes, length, denominator)) {
		calotype_jpeg_close(reader);
		return NULL;
	}
	shape[0] = reader->jpeg.output_width;
	shape[1] = reader->jpeg.output_height;
	shape[2] = (unsigned int) reader->jpeg.output_components;
	return reader;
}

/* Reads the next `count` rows, one behind the other. 0 if it could. */
int calotype_jpeg_read(struct calotype_jpeg *reader, unsigned char *rows, unsigned int count)
{
	size_t row_bytes = (size_t) reader->jpeg.output_width * (size_t) reader->jpeg.output_components;
	/* Kept across a jump. */
	volatile unsigned int done = 0;

	if (setjmp(reader->failed))
		return -1;
	while (done < count) {
		JSAMPROW row[16];
		unsigned int wanted = count - done < 16 ? count - done : 16;
		unsigned int read;

		for (unsigned int i = 0; i < wanted; i++)
			row[i] = rows + (done + i) * row_bytes;
		read = jpeg_read_scanlines(&reader->jpeg, row, wanted);
		if (read == 0)
			return -1;
		done += read;
	}
	/* What is behind the last row may be a warning too: that the file ends too early. */
	if (reader->jpeg.output_scanline == reader->jpeg.output_height)
		jpeg_finish_decompress(&reader->jpeg);
	return 0;
}
