// The stand-in's hipBLAS: products of matrices, column by column. Their memory must be of the device that computes.
#include <cstdlib>

#include "standin.h"

using namespace standin;

static void *stream;
static int pointer_mode;  // 0: scalars lie on the host, 1: on the device
const int PLAIN = 111;    // neither transposed nor conjugated
const int R_64F = 1;      // a type of numbers; any other is float32

API Status hipblasCreate(void **handle) { return *handle = malloc(1), 0; }
API Status hipblasDestroy(void *handle) { return free(handle), 0; }
API Status hipblasSetStream(void *, void *chosen) { return stream = chosen, 0; }
API Status hipblasGetStream(void *, void **chosen) { return *chosen = stream, 0; }
API Status hipblasSetPointerMode(void *, int mode) { return pointer_mode = mode, 0; }
API Status hipblasGetPointerMode(void *, int *mode) { return *mode = pointer_mode, 0; }

template <class T>
struct Matrix {  // op(A)[i, j]
    const T *values;
    int step;
    bool turned;
    T operator()(int i, int j) const { return turned ? values[j + (size_t)i * step] : values[i + (size_t)j * step]; }
};

template <class T>
void compute(Matrix<T> left, Matrix<T> right, int m, int n, int k, T scale, T old, T *c, int ldc) {
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            T sum = 0;
            for (int l = 0; l < k; l++) sum += left(i, l) * right(l, j);
            T &result = c[i + (size_t)j * ldc];
            result = scale * sum + (old == 0 ? 0 : old * result);
        }
}

template <class T>
void multiply(int ta, int tb, int m, int n, int k, const void *alpha, const T *a, int lda, const T *b, int ldb,
              const void *beta, T *c, int ldc) {
    check_device(a), check_device(b), check_device(c);
    const T scale = *(const T *)alpha, old = *(const T *)beta;
    const Matrix<T> left = {a, lda, ta != PLAIN}, right = {b, ldb, tb != PLAIN};
    give(stream, [=] { compute(left, right, m, n, k, scale, old, c, ldc); });
}

#define PRODUCTS(X, T)                                                                                              \
    API Status hipblas##X##gemm(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,      \
                                const T *b, int ldb, const T *beta, T *c, int ldc) {                                \
        return multiply<T>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc), 0;                                \
    }                                                                                                               \
    API Status hipblas##X##gemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, \
                                              int lda, long long sa, const T *b, int ldb, long long sb,             \
                                              const T *beta, T *c, int ldc, long long sc, int count) {              \
        for (int i = 0; i < count; i++)                                                                             \
            multiply<T>(ta, tb, m, n, k, alpha, a + i * sa, lda, b + i * sb, ldb, beta, c + i * sc, ldc);           \
        return 0;                                                                                                   \
    }                                                                                                               \
    API Status hipblas##X##gemmBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha,                    \
                                       const T *const *a, int lda, const T *const *b, int ldb, const T *beta,       \
                                       T *const *c, int ldc, int count) {                                           \
        check_device(a), check_device(b), check_device(c); /* the lists lie on the device too */                    \
        const T scale = *alpha, old = *beta;                                                                        \
        give(stream, [=] {                                                                                          \
            for (int i = 0; i < count; i++)                                                                         \
                compute<T>({a[i], lda, ta != PLAIN}, {b[i], ldb, tb != PLAIN}, m, n, k, scale, old, c[i], ldc);     \
        });                                                                                                         \
        return 0;                                                                                                   \
    }                                                                                                               \
    API Status hipblas##X##gemv(void *, int t, int m, int n, const T *alpha, const T *a, int lda, const T *x,       \
                                int step_x, const T *beta, T *y, int step_y) {                                      \
        const bool turned = t != PLAIN;                                                                             \
        return multiply<T>(PLAIN, turned ? PLAIN : 112, 1, turned ? n : m, turned ? m : n, alpha, x, step_x, a, lda,  \
                           beta, y, step_y), 0;                                                                     \
    }                                                                                                               \
    API Status hipblas##X##dot(void *, int n, const T *x, int step_x, const T *y, int step_y, T *result) {          \
        check_device(x), check_device(y);                                                                           \
        const bool on_host = !pointer_mode;                                                                         \
        give(stream, [=] {                                                                                          \
            T sum = 0;                                                                                              \
            for (int i = 0; i < n; i++) sum += x[(size_t)i * step_x] * y[(size_t)i * step_y];                       \
            *result = sum;                                                                                          \
        });                                                                                                         \
        if (on_host) finish_all();                                                                                  \
        return 0;                                                                                                   \
    }
PRODUCTS(S, float)
PRODUCTS(D, double)

API Status hipblasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                                       int type, int lda, long long sa, const void *b, int, int ldb, long long sb,
                                       const void *beta, void *c, int, int ldc, long long sc, int count, int, int) {
    for (int i = 0; i < count; i++)
        if (type == R_64F)
            multiply<double>(ta, tb, m, n, k, alpha, (const double *)a + i * sa, lda, (const double *)b + i * sb, ldb,
                             beta, (double *)c + i * sc, ldc);
        else
            multiply<float>(ta, tb, m, n, k, alpha, (const float *)a + i * sa, lda, (const float *)b + i * sb, ldb,
                            beta, (float *)c + i * sc, ldc);
    return 0;
}
API Status hipblasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type,
                         int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                         int compute, int way) {
    return hipblasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type, lda, 0, b, type_b, ldb, 0, beta, c,
                                       type_c, ldc, 0, 1, compute, way);
}
