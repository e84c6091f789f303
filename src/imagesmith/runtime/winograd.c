/* 3x3 convolutions of float32 pictures (height, width, channels) by Winograd's F(4x4, 3x3).
 *
 * A tile of 4x4 results takes 36 multiplications for each pair of channels in place of 144 (Lavin and Gray 2016, with
 * the points 0, 1, -1, 2, -2 and infinity): 6x6 values are transformed, multiplied with transformed kernels as 36
 * products of matrices, and transformed back. A block of tiles goes all the way while it is in the second cache; a
 * residual pair of convolutions goes band by band, while a band is in the third.
 * Compiled by winograd.py, with LANES the floats of a vector register: 4, 8 or 16. Channels are multiples of PANEL.
 */

#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 16               /* channels of the result that are computed together */
#define VECTORS (PANEL / LANES)
#define ROWS (LANES == 16 ? 12 : 6) /* tiles that are multiplied together: what the registers hold */
#define BLOCK 12               /* tiles on their way together, a multiple of ROWS */
#define BLOCKS_IN_BAND 4       /* of each thread */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define AT(pointer) (*(vec *)(pointer))
#define CONST_AT(pointer) (*(const vec *)(pointer))
#define INLINE static inline __attribute__((always_inline))

/* Six values of a row or column, `step` apart in `out`. */
INLINE void transform(const vec d[6], vec *out, int step) {
    vec even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], far_even = d[4] - d[2], far_odd = 2 * (d[3] - d[1]);
    out[0] = 4 * d[0] - 5 * d[2] + d[4];
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far_even + far_odd;
    out[4 * step] = far_even - far_odd;
    out[5 * step] = 4 * d[1] - 5 * d[3] + d[5];
}

/* Six products of a row or column to its four results, `step` apart in `out`. */
INLINE void transform_back(const vec m[6], vec *out, int step) {
    vec near_sum = m[1] + m[2], near_gap = m[1] - m[2], far_sum = m[3] + m[4], far_gap = m[3] - m[4];
    out[0] = m[0] + near_sum + far_sum;
    out[step] = near_gap + 2 * far_gap;
    out[2 * step] = near_sum + 4 * far_sum;
    out[3 * step] = near_gap + 8 * far_gap + m[5];
}

/* A picture of which the last `held` rows are kept, in turn in the same places; or all of them. */
typedef struct {
    float *values;
    int height, width, channels, held;
} plane;

/* kernels (to / PANEL, 36, from, PANEL) transformed, and what comes after them: + bias, then not below 0 with relu. */
typedef struct {
    const float *kernels, *bias;
    int from, to, relu;
} layer;

INLINE float *row(const plane *p, int number) {
    return p->values + (size_t)(number % p->held) * p->width * p->channels;
}

static int least(int a, int b) { return a < b ? a : b; }

static float *memory(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

static size_t block_floats(const layer *l) { return 36 * BLOCK * ((size_t)l->from + PANEL); }

/* The 6x6 values from (top, left) on, zeros beyond the picture, as 36 rows of channels, `stride` apart. */
INLINE void gather(const plane *x, float *v, int top, int left, size_t stride, int inside) {
    const float *rows[6];
    for (int i = 0; i < 6; i++) rows[i] = inside || (top + i >= 0 && top + i < x->height) ? row(x, top + i) : NULL;
    for (int c = 0; c < x->channels; c += LANES) {
        vec half[36];
        for (int j = 0; j < 6; j++) {
            vec column[6];
            for (int i = 0; i < 6; i++) {
                int there = inside || (rows[i] && left + j >= 0 && left + j < x->width);
                column[i] = there ? CONST_AT(rows[i] + (size_t)(left + j) * x->channels + c) : (vec){0};
            }
            transform(column, half + j, 6);
        }
        for (int i = 0; i < 6; i++) {
            vec whole[6];
            transform(half + 6 * i, whole, 1);
            for (int j = 0; j < 6; j++) AT(v + (6 * i + j) * stride + c) = whole[j];
        }
    }
}

/* (rows, depth) times (depth, PANEL). */
INLINE void multiply_rows(const float *v, const float *u, float *m, int depth, int rows) {
    vec sums[ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < VECTORS; k++) sums[r][k] = (vec){0};
    for (int d = 0; d < depth; d++)
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < VECTORS; k++) sums[r][k] += v[r * depth + d] * CONST_AT(u + d * PANEL + k * LANES);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < VECTORS; k++) AT(m + r * PANEL + k * LANES) = sums[r][k];
}

/* Tiles are multiplied ROWS at a time, and what lies beyond the last one with them. */
static void multiply(const float *v, const float *u, float *m, int depth, int tiles) {
    for (int t = 0; t < tiles; t += ROWS) multiply_rows(v + t * depth, u, m + t * PANEL, depth, ROWS);
}

/* PANEL channels from `channel` on of `rows` by `columns` results, at most 4x4, from (top, left) on. */
INLINE void scatter(const float *m, const float *bias, const plane *skip, const plane *y, int channel, int top, int left,
                    int rows, int columns, size_t stride, int relu) {
    for (int c = 0; c < PANEL; c += LANES) {
        vec half[24], level = CONST_AT(bias + channel + c);
        for (int j = 0; j < 6; j++) {
            vec column[6];
            for (int i = 0; i < 6; i++) column[i] = CONST_AT(m + (6 * i + j) * stride + c);
            transform_back(column, half + j, 6);
        }
        for (int i = 0; i < rows; i++) {
            size_t at = (size_t)left * y->channels + channel + c;
            float *out = row(y, top + i) + at;
            const float *summand = skip ? row(skip, top + i) + at : NULL;
            vec whole[4];
            transform_back(half + 6 * i, whole, 1);
            for (int j = 0; j < columns; j++) {
                vec result = whole[j] + level;
                if (relu) result = (vec)((bits)result & ~(result < (vec){0})); /* what is not a number stays that */
                if (summand) result += CONST_AT(summand + j * y->channels);
                AT(out + j * y->channels) = result;
            }
        }
    }
}

/* `count` tiles of y = l(x), plus `skip` unless that is NULL, from number `first` on; `v` is memory for a block. */
static void compute(const plane *x, const layer *l, const plane *skip, const plane *y, int first, int count, float *v) {
    size_t v_stride = (size_t)BLOCK * l->from, m_stride = (size_t)BLOCK * PANEL;
    float *m = v + 36 * v_stride;
    int across = (x->width + 3) / 4;
    for (int t = 0; t < count; t++) {
        int top = (first + t) / across * 4 - 1, left = (first + t) % across * 4 - 1;
        if (top >= 0 && left >= 0 && top + 6 <= x->height && left + 6 <= x->width)
            gather(x, v + t * l->from, top, left, v_stride, 1);
        else
            gather(x, v + t * l->from, top, left, v_stride, 0);
    }
    for (int c = 0; c < l->to; c += PANEL) {
        const float *kernels = l->kernels + (size_t)c * 36 * l->from;
        for (int i = 0; i < 36; i++)
            multiply(v + i * v_stride, kernels + (size_t)i * l->from * PANEL, m + i * m_stride, l->from, count);
        for (int t = 0; t < count; t++) {
            int top = (first + t) / across * 4, left = (first + t) % across * 4;
            int rows = least(4, y->height - top), columns = least(4, y->width - left);
            if (rows == 4 && columns == 4) /* said again, for the compiler to unroll */
                scatter(m + t * PANEL, l->bias, skip, y, c, top, left, 4, 4, m_stride, l->relu);
            else
                scatter(m + t * PANEL, l->bias, skip, y, c, top, left, rows, columns, m_stride, l->relu);
        }
    }
}

/* y = conv(x, kernels) + bias, the padding is zeros; x (height, width, from), y (height, width, to). 0, or 1 without
 * memory for it. Computes on the threads of the OpenMP that the process has loaded. */
int convolve(const float *x, const float *kernels, const float *bias, float *y, int height, int width, int from,
             int to) {
    plane in = {(float *)x, height, width, from, height}, out = {y, height, width, to, height};
    layer l = {kernels, bias, from, to, 0};
    int tiles = (height + 3) / 4 * ((width + 3) / 4), failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        float *v = memory(block_floats(&l));
        failed = !v;
        if (v) memset(v, 0, block_floats(&l) * sizeof(float));
#pragma omp for schedule(static)
        for (int first = 0; first < tiles; first += BLOCK)
            if (v) compute(&in, &l, NULL, &out, first, least(BLOCK, tiles - first), v);
        free(v);
    }
    return failed;
}

/* x + conv(relu(conv(x))) in place of x (height, width, channels), the rest as above.
 * While the second convolution computes a band of tiles, the first computes the next one, a row of tiles ahead because
 * the second sees so far. So what the first reads of x lies below all that the second replaces, and of what is between
 * them two bands are kept, with a row of tiles on either side. */
int add_pair(float *x, const float *kernels_1, const float *bias_1, const float *kernels_2, const float *bias_2,
             int height, int width, int channels) {
    int across = (width + 3) / 4, down = (height + 3) / 4, failed = 0;
    int wanted = BLOCKS_IN_BAND * BLOCK * omp_get_max_threads();
    int band = least(down, (wanted + across - 1) / across), held = 4 * (2 * band + 2);
    plane in = {x, height, width, channels, height}, between = {NULL, height, width, channels, held};
    layer first = {kernels_1, bias_1, channels, channels, 1}, second = {kernels_2, bias_2, channels, channels, 0};
    if (!(between.values = memory((size_t)held * width * channels))) return 1;
#pragma omp parallel reduction(| : failed)
    {
        float *v = memory(block_floats(&first));
        failed = !v;
        if (v) memset(v, 0, block_floats(&first) * sizeof(float));
        for (int top = -band - 1; top < down; top += band) {
            /* tiles of the second from `begin` to `end`, of the first from `ahead` to `far`; none beyond the picture */
            int begin = top < 0 ? 0 : top * across, end = least(down, top + band) * across;
            int ahead = (top + band + 1) * across, far = least(down, top + 2 * band + 1) * across;
            int blocks = end > begin ? (end - begin + BLOCK - 1) / BLOCK : 0;
            int blocks_ahead = far > ahead ? (far - ahead + BLOCK - 1) / BLOCK : 0;
#pragma omp for schedule(static)
            for (int i = 0; i < blocks + blocks_ahead; i++) {
                int at = i < blocks ? begin + i * BLOCK : ahead + (i - blocks) * BLOCK;
                if (v && i < blocks)
                    compute(&between, &second, &in, &in, at, least(BLOCK, end - at), v);
                else if (v)
                    compute(&in, &first, NULL, &between, at, least(BLOCK, far - at), v);
            }
        }
        free(v);
    }
    free(between.values);
    return failed;
}
