// The part of Metal's library that naga's translation of the kernels uses, for compilers of CUDA and HIP.

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
// Constants of other variants.
#pragma nv_diag_suppress 177
#endif

typedef unsigned int uint;

namespace metal {

typedef unsigned int uint;

#define FN static __device__ __forceinline__

FN float max(float a, float b) { return fmaxf(a, b); }
FN float min(float a, float b) { return fminf(a, b); }
FN uint max(uint a, uint b) { return a > b ? a : b; }
FN uint min(uint a, uint b) { return a < b ? a : b; }
FN int max(int a, int b) { return a > b ? a : b; }
FN int min(int a, int b) { return a < b ? a : b; }
FN float abs(float x) { return fabsf(x); }
FN float exp(float x) { return expf(x); }
FN float exp2(float x) { return exp2f(x); }
FN float log(float x) { return logf(x); }
FN float log2(float x) { return log2f(x); }
FN float sqrt(float x) { return sqrtf(x); }
template <class T> FN T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <class T> FN T select(T a, T b, bool chosen) { return chosen ? b : a; }

// Vectors of 2, 3 and 4 components. A swizzle is a method.
template <class T> struct vec3;
template <class T> struct vec4;
template <class T> struct alignas(2 * sizeof(T)) vec2 {
    T x, y;
    vec2() = default;
    __device__ vec2(T x, T y) : x(x), y(y) {}
    __device__ explicit vec2(T a) : x(a), y(a) {}
    template <class U> __device__ explicit vec2(vec2<U> v) : x(T(v.x)), y(T(v.y)) {}
    __device__ T& operator[](uint i) { return (&x)[i]; }
    __device__ const T& operator[](uint i) const { return (&x)[i]; }
    __device__ vec4<T> xyxy() const { return vec4<T>(x, y, x, y); }
};

template <class T> struct alignas(4 * sizeof(T)) vec3 {
    T x, y, z;
    vec3() = default;
    __device__ vec3(T x, T y, T z) : x(x), y(y), z(z) {}
    __device__ vec3(vec2<T> v, T z) : x(v.x), y(v.y), z(z) {}
    __device__ explicit vec3(T a) : x(a), y(a), z(a) {}
    template <class U> __device__ explicit vec3(vec3<U> v) : x(T(v.x)), y(T(v.y)), z(T(v.z)) {}
    __device__ T& operator[](uint i) { return (&x)[i]; }
    __device__ const T& operator[](uint i) const { return (&x)[i]; }
};

template <class T> struct alignas(4 * sizeof(T)) vec4 {
    T x, y, z, w;
    vec4() = default;
    __device__ vec4(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
    __device__ vec4(vec2<T> v, T z, T w) : x(v.x), y(v.y), z(z), w(w) {}
    __device__ vec4(vec2<T> a, vec2<T> b) : x(a.x), y(a.y), z(b.x), w(b.y) {}
    __device__ vec4(vec3<T> v, T w) : x(v.x), y(v.y), z(v.z), w(w) {}
    __device__ explicit vec4(T a) : x(a), y(a), z(a), w(a) {}
    template <class U> __device__ explicit vec4(vec4<U> v) : x(T(v.x)), y(T(v.y)), z(T(v.z)), w(T(v.w)) {}
    __device__ T& operator[](uint i) { return (&x)[i]; }
    __device__ const T& operator[](uint i) const { return (&x)[i]; }
    __device__ vec2<T> xy() const { return vec2<T>(x, y); }
    __device__ vec2<T> zw() const { return vec2<T>(z, w); }
    __device__ vec3<T> xyz() const { return vec3<T>(x, y, z); }
};

// Applies a function of components, or an operator, to vectors.
#define MAP1(f, R, T)                                                                                          \
    FN vec2<R> f(vec2<T> a) { return vec2<R>(f(a.x), f(a.y)); }                                   \
    FN vec3<R> f(vec3<T> a) { return vec3<R>(f(a.x), f(a.y), f(a.z)); }                           \
    FN vec4<R> f(vec4<T> a) { return vec4<R>(f(a.x), f(a.y), f(a.z), f(a.w)); }
#define MAP2(f)                                                                                                \
    template <class T> FN vec2<T> f(vec2<T> a, vec2<T> b) { return vec2<T>(f(a.x, b.x), f(a.y, b.y)); } \
    template <class T> FN vec3<T> f(vec3<T> a, vec3<T> b) {                                       \
        return vec3<T>(f(a.x, b.x), f(a.y, b.y), f(a.z, b.z));                                                 \
    }                                                                                                          \
    template <class T> FN vec4<T> f(vec4<T> a, vec4<T> b) {                                       \
        return vec4<T>(f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w));                                    \
    }
#define OPERATOR(op, R)                                                                                        \
    template <class T> FN vec2<R> operator op(vec2<T> a, vec2<T> b) {                             \
        return vec2<R>(a.x op b.x, a.y op b.y);                                                                \
    }                                                                                                          \
    template <class T> FN vec3<R> operator op(vec3<T> a, vec3<T> b) {                             \
        return vec3<R>(a.x op b.x, a.y op b.y, a.z op b.z);                                                    \
    }                                                                                                          \
    template <class T> FN vec4<R> operator op(vec4<T> a, vec4<T> b) {                             \
        return vec4<R>(a.x op b.x, a.y op b.y, a.z op b.z, a.w op b.w);                                        \
    }
// The same with a number on one side, and the assignment.
#define ARITHMETIC_OF(vec, op)                                                                                 \
    template <class T> FN vec<T> operator op(vec<T> a, T b) { return a op vec<T>(b); }            \
    template <class T> FN vec<T> operator op(T a, vec<T> b) { return vec<T>(a) op b; }            \
    template <class T> FN vec<T>& operator op##=(vec<T>& a, vec<T> b) { return a = a op b; }
#define ARITHMETIC(op) OPERATOR(op, T) ARITHMETIC_OF(vec2, op) ARITHMETIC_OF(vec3, op) ARITHMETIC_OF(vec4, op)

MAP1(abs, float, float)
MAP1(exp, float, float)
MAP1(exp2, float, float)
MAP1(log, float, float)
MAP1(log2, float, float)
MAP1(sqrt, float, float)
MAP2(max)
MAP2(min)
ARITHMETIC(+)
ARITHMETIC(-)
ARITHMETIC(*)
ARITHMETIC(/)
OPERATOR(&, T)
OPERATOR(|, T)
OPERATOR(^, T)
OPERATOR(<<, T)
OPERATOR(>>, T)
OPERATOR(<, bool)
OPERATOR(<=, bool)
OPERATOR(>, bool)
OPERATOR(>=, bool)
OPERATOR(==, bool)
OPERATOR(!=, bool)

template <class T> FN vec4<T> operator-(vec4<T> a) { return vec4<T>(-a.x, -a.y, -a.z, -a.w); }
template <class T> FN vec3<T> operator-(vec3<T> a) { return vec3<T>(-a.x, -a.y, -a.z); }
template <class T> FN vec2<T> operator-(vec2<T> a) { return vec2<T>(-a.x, -a.y); }
template <class T> FN vec4<T> operator~(vec4<T> a) { return vec4<T>(~a.x, ~a.y, ~a.z, ~a.w); }

typedef vec2<float> float2;
typedef vec3<float> float3;
typedef vec4<float> float4;
typedef vec2<uint> uint2;
typedef vec3<uint> uint3;
typedef vec4<uint> uint4;
typedef vec2<bool> bool2;
typedef vec3<bool> bool3;
typedef vec4<bool> bool4;

FN bool4 operator!(bool4 a) { return bool4(!a.x, !a.y, !a.z, !a.w); }
FN bool2 operator!(bool2 a) { return bool2(!a.x, !a.y); }
FN bool any(bool4 a) { return a.x || a.y || a.z || a.w; }
FN bool any(bool3 a) { return a.x || a.y || a.z; }
FN bool any(bool2 a) { return a.x || a.y; }
FN bool all(bool4 a) { return a.x && a.y && a.z && a.w; }
template <class T> FN T dot(vec2<T> a, vec2<T> b) { return a.x * b.x + a.y * b.y; }
template <class T> FN T dot(vec4<T> a, vec4<T> b) {
    return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
template <class T> FN vec2<T> select(vec2<T> a, vec2<T> b, bool2 chosen) {
    return vec2<T>(chosen.x ? b.x : a.x, chosen.y ? b.y : a.y);
}
template <class T> FN vec3<T> select(vec3<T> a, vec3<T> b, bool3 chosen) {
    return vec3<T>(chosen.x ? b.x : a.x, chosen.y ? b.y : a.y, chosen.z ? b.z : a.z);
}
template <class T> FN vec4<T> select(vec4<T> a, vec4<T> b, bool4 chosen) {
    return vec4<T>(chosen.x ? b.x : a.x, chosen.y ? b.y : a.y, chosen.z ? b.z : a.z, chosen.w ? b.w : a.w);
}

enum mem_flags { mem_none, mem_threadgroup, mem_device };
FN void threadgroup_barrier(mem_flags) { __syncthreads(); }

struct atomic_uint {
    uint value;
};
enum memory_order { memory_order_relaxed };
FN uint atomic_load_explicit(const atomic_uint* a, memory_order) { return *(const volatile uint*)&a->value; }
FN void atomic_store_explicit(atomic_uint* a, uint x, memory_order) { *(volatile uint*)&a->value = x; }
FN uint atomic_fetch_add_explicit(atomic_uint* a, uint x, memory_order) { return atomicAdd(&a->value, x); }
FN uint atomic_fetch_min_explicit(atomic_uint* a, uint x, memory_order) { return atomicMin(&a->value, x); }
FN uint atomic_fetch_and_explicit(atomic_uint* a, uint x, memory_order) { return atomicAnd(&a->value, x); }
FN uint atomic_fetch_or_explicit(atomic_uint* a, uint x, memory_order) { return atomicOr(&a->value, x); }
FN bool atomic_compare_exchange_weak_explicit(atomic_uint* a, uint* expected, uint x, memory_order, memory_order) {
    uint before = atomicCAS(&a->value, *expected, x);
    bool exchanged = before == *expected;
    *expected = before;
    return exchanged;
}

// Operations of whole warps, in uniform control flow.
#ifdef __HIP__
#define SHUFFLE_XOR(x, mask) __shfl_xor(x, mask)
#define LANES_OF_WARP warpSize
#else
#define SHUFFLE_XOR(x, mask) __shfl_xor_sync(0xffffffffu, x, mask)
#define LANES_OF_WARP 32
#endif
template <class T> FN T simd_shuffle_xor(T x, uint mask) { return SHUFFLE_XOR(x, mask); }
template <class T> FN T simd_sum(T x) {
    for (int mask = 1; mask < LANES_OF_WARP; mask *= 2) x += SHUFFLE_XOR(x, mask);
    return x;
}
template <class T> FN T simd_max(T x) {
    for (int mask = 1; mask < LANES_OF_WARP; mask *= 2) x = max(x, SHUFFLE_XOR(x, mask));
    return x;
}
FN uint simd_or(uint x) {
    for (int mask = 1; mask < LANES_OF_WARP; mask *= 2) x |= SHUFFLE_XOR(x, mask);
    return x;
}
// Every lane of a warp is active, so that ranks are lanes. The kernels add ones.
FN uint simd_prefix_exclusive_sum(uint x) { return (threadIdx.x % LANES_OF_WARP) * x; }

}  // namespace metal

template <class T, class U> FN T as_type(U from) {
    static_assert(sizeof(T) == sizeof(U), "as_type keeps the size");
    T to;
    memcpy(&to, &from, sizeof(T));
    return to;
}
