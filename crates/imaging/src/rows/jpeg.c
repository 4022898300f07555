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

/* Whether colours have half the resolution each way, as cameras write them. */
static int is_halved(const struct jpeg_decompress_struct *jpeg)
{
	const jpeg_component_info *part = jpeg->comp_info;

	return jpeg->num_components == 3 && part[0].h_samp_factor == 2 && part[0].v_samp_factor == 2 &&
		part[1].h_samp_factor == 1 && part[1].v_samp_factor == 1 && part[2].h_samp_factor == 1 &&
		part[2].v_samp_factor == 1;
}

/* Reads the header and gets ready for the first row. 0 if it is no plain JPEG, or not what is to be read as planes. */
static int start(struct calotype_jpeg *reader, const unsigned char *bytes, unsigned long length,
	unsigned int denominator, int as_planes)
{
	if (setjmp(reader->failed))
		return 0;
	jpeg_create_decompress(&reader->jpeg);
	jpeg_mem_src(&reader->jpeg, (unsigned char *) bytes, length);
	if (jpeg_read_header(&reader->jpeg, TRUE) != JPEG_HEADER_OK || !is_plain(&reader->jpeg))
		return 0;
	reader->jpeg.scale_num = 1;
	reader->jpeg.scale_denom = denominator;
	if (as_planes) {
		if (!is_halved(&reader->jpeg))
			return 0;
		reader->jpeg.raw_data_out = TRUE;
	} else {
		reader->jpeg.out_color_space = reader->jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
	}
	return jpeg_start_decompress(&reader->jpeg);
}

static struct calotype_jpeg *open_reader(
	const unsigned char *bytes, unsigned long length, unsigned int denominator, int as_planes)
{
	struct calotype_jpeg *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->jpeg.err = jpeg_std_error(&reader->errors);
	reader->jpeg.client_data = reader;
	reader->errors.error_exit = on_error;
	reader->errors.emit_message = on_message;
	reader->errors.output_message = on_output;
	if (!start(reader, bytes, length, denominator, as_planes)) {
		calotype_jpeg_close(reader);
		return NULL;
	}
	return reader;
}

/* Opens `length` bytes, shrunk by 1, 2, 4 or 8. Tells the width, the height and the channels of what is read. NULL if it is
 * no plain JPEG. */
struct calotype_jpeg *calotype_jpeg_open(
	const unsigned char *bytes, unsigned long length, unsigned int denominator, unsigned int shape[3])
{
	struct calotype_jpeg *reader = open_reader(bytes, length, denominator, 0);

	if (!reader)
		return NULL;
	shape[0] = reader->jpeg.output_width;
	shape[1] = reader->jpeg.output_height;
	shape[2] = (unsigned int) reader->jpeg.output_components;
	return reader;
}

/* Opens `length` bytes to be read as planes. Tells the width, the height, and how many bytes a row of light and one of colour
 * take. NULL if it is no plain JPEG with colours of half the resolution. */
struct calotype_jpeg *calotype_jpeg_open_planes(
	const unsigned char *bytes, unsigned long length, unsigned int shape[4])
{
	struct calotype_jpeg *reader = open_reader(bytes, length, 1, 1);

	if (!reader)
		return NULL;
	shape[0] = reader->jpeg.output_width;
	shape[1] = reader->jpeg.output_height;
	shape[2] = reader->jpeg.comp_info[0].width_in_blocks * DCTSIZE;
	shape[3] = reader->jpeg.comp_info[1].width_in_blocks * DCTSIZE;
	return reader;
}

/* Reads the next 16 rows of light and 8 of each colour; what is below the picture may be left as it was. 0 if it could. */
int calotype_jpeg_read_planes(
	struct calotype_jpeg *reader, unsigned char *luma, unsigned char *blue, unsigned char *red)
{
	size_t luma_bytes = (size_t) reader->jpeg.comp_info[0].width_in_blocks * DCTSIZE;
	size_t colour_bytes = (size_t) reader->jpeg.comp_info[1].width_in_blocks * DCTSIZE;
	JSAMPROW luma_rows[2 * DCTSIZE], blue_rows[DCTSIZE], red_rows[DCTSIZE];
	JSAMPARRAY planes[3] = { luma_rows, blue_rows, red_rows };

	for (unsigned int i = 0; i < 2 * DCTSIZE; i++)
		luma_rows[i] = luma + i * luma_bytes;
	for (unsigned int i = 0; i < DCTSIZE; i++) {
		blue_rows[i] = blue + i * colour_bytes;
		red_rows[i] = red + i * colour_bytes;
	}
	if (setjmp(reader->failed))
		return -1;
	if (jpeg_read_raw_data(&reader->jpeg, planes, 2 * DCTSIZE) != 2 * DCTSIZE)
		return -1;
	if (reader->jpeg.output_scanline >= reader->jpeg.output_height)
		jpeg_finish_decompress(&reader->jpeg);
	return 0;
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
