/* 3x3 convolutions of float32 pictures (height, width, channels) by Winograd's F(4x4, 3x3).
 *
 * A tile of 4x4 results takes 36 multiplications for each pair of channels in place of 144 (Lavin and Gray 2016, with
 * the points 0, 1, -1, 2, -2 and infinity): 6x6 values are transformed, multiplied with transformed kernels as 36
 * products of matrices, and transformed back. A block of tiles goes all the way while it is in the second cache.
 * Compiled by winograd.py, with LANES the floats of a vector register: 4, 8 or 16. Channels are multiples of PANEL.
 */

#include <stddef.h>
#include <stdlib.h>

#define PANEL 16               /* channels of the result that are computed together */
#define VECTORS (PANEL / LANES)
#define ROWS (LANES == 16 ? 12 : 6) /* tiles that are multiplied together: what the registers hold */
#define BLOCK 12               /* tiles on their way together, a multiple of ROWS */

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

/* The 6x6 values from (top, left) on, zeros beyond the picture, as 36 rows of `channels`, `stride` apart. */
INLINE void gather(const float *x, float *v, int height, int width, int channels, int top, int left, size_t stride,
                   int inside) {
    for (int c = 0; c < channels; c += LANES) {
        vec half[36];
        for (int j = 0; j < 6; j++) {
            vec column[6];
            for (int i = 0; i < 6; i++) {
                int row = top + i, at = left + j;
                int there = inside || (row >= 0 && row < height && at >= 0 && at < width);
                column[i] = there ? CONST_AT(x + ((ptrdiff_t)row * width + at) * channels + c) : (vec){0};
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

static void multiply(const float *v, const float *u, float *m, int depth, int tiles) {
    int t = 0;
    for (; t + ROWS <= tiles; t += ROWS) multiply_rows(v + t * depth, u, m + t * PANEL, depth, ROWS);
    for (; t < tiles; t++) multiply_rows(v + t * depth, u, m + t * PANEL, depth, 1);
}

/* PANEL channels of the 4x4 results from (top, left) on, as far as the picture reaches. */
static void scatter(const float *m, const float *bias, const float *skip, float *y, int height, int width, int channels,
                    int top, int left, size_t stride, int relu) {
    int rows = height - top < 4 ? height - top : 4, columns = width - left < 4 ? width - left : 4;
    for (int c = 0; c < PANEL; c += LANES) {
        vec half[24];
        for (int j = 0; j < 6; j++) {
            vec column[6];
            for (int i = 0; i < 6; i++) column[i] = CONST_AT(m + (6 * i + j) * stride + c);
            transform_back(column, half + j, 6);
        }
        for (int i = 0; i < rows; i++) {
            vec whole[4];
            transform_back(half + 6 * i, whole, 1);
            for (int j = 0; j < columns; j++) {
                size_t at = ((size_t)(top + i) * width + left + j) * channels + c;
                vec result = whole[j] + CONST_AT(bias + c);
                if (relu) result = (vec)((bits)result & ~(result < (vec){0})); /* what is not a number stays that */
                if (skip) result += CONST_AT(skip + at);
                AT(y + at) = result;
            }
        }
    }
}

/* y = conv(x, kernels) + bias, then not below zero with `relu`, then plus `skip` unless that is NULL; the padding is
 * zeros. x (height, width, from), kernels (to / PANEL, 36, from, PANEL) transformed, y and skip (height, width, to).
 * 0, or 1 without memory for it. Computes on the threads of the OpenMP that the process has loaded. */
int convolve(const float *x, const float *kernels, const float *bias, const float *skip, float *y, int height, int width,
             int from, int to, int relu) {
    int across = (width + 3) / 4, tiles = (height + 3) / 4 * across, failed = 0;
    size_t v_stride = (size_t)BLOCK * from, m_stride = (size_t)BLOCK * PANEL;
#pragma omp parallel reduction(| : failed)
    {
        float *v = aligned_alloc(64, 36 * (v_stride + m_stride) * sizeof(float)), *m = v + 36 * v_stride;
        failed = !v;
#pragma omp for schedule(static)
        for (int first = 0; first < tiles; first += BLOCK) {
            if (failed) continue;
            int count = tiles - first < BLOCK ? tiles - first : BLOCK;
            for (int t = 0; t < count; t++) {
                int top = (first + t) / across * 4 - 1, left = (first + t) % across * 4 - 1;
                if (top >= 0 && left >= 0 && top + 6 <= height && left + 6 <= width)
                    gather(x, v + t * from, height, width, from, top, left, v_stride, 1);
                else
                    gather(x, v + t * from, height, width, from, top, left, v_stride, 0);
            }
            for (int c = 0; c < to; c += PANEL) {
                for (int i = 0; i < 36; i++)
                    multiply(v + i * v_stride, kernels + ((size_t)c / PANEL * 36 + i) * from * PANEL, m + i * m_stride,
                             from, count);
                for (int t = 0; t < count; t++)
                    scatter(m + t * PANEL, bias + c, skip ? skip + c : NULL, y + c, height, width, to,
                            (first + t) / across * 4, (first + t) % across * 4, m_stride, relu);
            }
        }
        free(v);
    }
    return failed;
}
