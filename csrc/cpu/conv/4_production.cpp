// Convolution, rung 4: the right kernel for each shape. This is what conv2d calls.
//
// Idea:       no kernel is the best for every convolution; a table picks one by the shape alone.
// Changed:    one input channel per group (depthwise) leaves the matrix product, which has no reuse there to exploit;
//             3x3 kernels with channels enough to pay for the transforms are done by Winograd.
// Why faster: a depthwise 3x3 is 9 multiply-adds for each number read: packing it would cost more than the sums.
// Still hurts: the choice is a table of rules, not a measurement on the machine it runs on.
#include "cpu/conv/depthwise.h"
#include "cpu/conv/shape.h"

namespace glassgrad {

namespace {

template <class T>
struct Kernels {
    bool (*fits)(const Conv2dShape&);
    void (*forward)(T*, const T*, const T*, const T*, const Conv2dShape&);
    void (*backward_input)(T*, const T*, const T*, const Conv2dShape&);
    void (*backward_weight)(T*, const T*, const T*, const Conv2dShape&);
};

bool is_depthwise(const Conv2dShape& s) { return s.groups > 1 && s.c == s.groups; }
/// Measured from one tile to thousands: with 16 channels 1.4 to 2 times as fast as implicit, with 12 1.1 to 1.3, with 8
/// slower (AVX-512; AVX2 gains a little more).
bool is_for_winograd(const Conv2dShape& s) { return winograd_fits(s) && std::min(s.c, s.k) / s.groups >= 16; }
bool is_any(const Conv2dShape&) { return true; }

/// The first row that fits is taken; one whose numbers differ in rounding (Winograd's) goes before the last.
template <class T>
constexpr Kernels<T> TABLE[] = {
    {is_depthwise, conv2d_implicit<T>, conv2d_backward_input_implicit<T>, depthwise_backward_weight<T>},
    {is_for_winograd, conv2d_winograd<T>, conv2d_backward_input_winograd<T>, conv2d_backward_weight_winograd<T>},
    {is_any, conv2d_implicit<T>, conv2d_backward_input_implicit<T>, conv2d_backward_weight_implicit<T>},
};

template <class T>
const Kernels<T>& choose(const Conv2dShape& s) {
    const Kernels<T>* row = TABLE<T>;
    while (!row->fits(s)) ++row;
    return *row;
}

}  // namespace

template <class T>
void conv2d(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    choose<T>(s).forward(y, x, w, bias, s);
}
template <class T>
void conv2d_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    choose<T>(s).backward_input(dx, dy, w, s);
}
template <class T>
void conv2d_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    choose<T>(s).backward_weight(dw, dy, x, s);
}

#define INSTANTIATE(T)                                                                  \
    template void conv2d<T>(T*, const T*, const T*, const T*, const Conv2dShape&);      \
    template void conv2d_backward_input<T>(T*, const T*, const T*, const Conv2dShape&); \
    template void conv2d_backward_weight<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
