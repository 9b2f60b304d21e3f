// The words of the bindings: NumPy arrays in, NumPy arrays out, the GIL released round the kernel.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/allocator.h"
#include "core/check.h"
#include "core/view.h"

namespace glassgrad::bindings {

namespace py = pybind11;

/// What a binding returns when it has no kernel for these dtypes: the caller then counts a fall-back to the reference.
inline py::object not_implemented() { return py::reinterpret_borrow<py::object>(Py_NotImplemented); }

template <class T>
bool is_native(const py::array& a) {
    return py::isinstance<py::array_t<T>>(a) && a.ndim() <= MAX_DIMS;
}

/// Below this NumPy's own allocation is 0.05 us quicker than ours with its capsule. Above it the heap gives memory back
/// between training steps: 50 activations of 25 KiB cost 360 page faults a step, a fifth of its time.
inline constexpr i64 POOLED_BYTES = 4 * 1024;

/// A new C-contiguous array, not initialised.
template <class T>
py::array_t<T> empty(const std::vector<py::ssize_t>& shape) {
    i64 n = 1;
    for (auto extent : shape) n = checked_product(n, extent);
    const i64 bytes = checked_product(n, sizeof(T));
    if (bytes < POOLED_BYTES) return py::array_t<T>(shape);
    void* block = allocate(static_cast<std::size_t>(bytes));
    py::capsule owner(block, [](void* p) { deallocate(p); });
    return py::array_t<T>(shape, static_cast<T*>(block), owner);
}

inline std::vector<py::ssize_t> shape_of(const py::array& a) { return {a.shape(), a.shape() + a.ndim()}; }

template <class T>
py::array_t<T> empty_like(const py::array& a) {
    return empty<T>(shape_of(a));
}

inline bool is_contiguous(const py::array& a) { return a.flags() & py::array::c_style; }

/// `a` itself when it is C-contiguous, aligned and in native byte order, else a copy that is.
template <class T>
py::array_t<T> contiguous(const py::array& a) {
    using Plain = py::array_t<T, py::array::c_style | py::array::forcecast>;
    if (is_contiguous(a) || a.nbytes() < POOLED_BYTES) return Plain::ensure(a);
    py::array_t<T> copy = empty<T>(shape_of(a));  // NumPy's own copies have new pages to fault in every time
    if (py::detail::npy_api::get().PyArray_CopyInto_(copy.ptr(), a.ptr())) throw py::error_already_set();
    return copy;
}

/// x, or an aligned copy where its memory cannot be walked in steps of whole elements (a field of a record array).
template <class T>
py::array walkable(const py::array& x) {
    bool whole = reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) == 0;
    for (int d = 0; d < x.ndim(); ++d) whole = whole && x.strides(d) % static_cast<py::ssize_t>(sizeof(T)) == 0;
    return whole ? x : py::array(x.attr("copy")());
}

template <class T>
View<const T> view(const py::array& a) {
    View<const T> v;
    v.data = static_cast<const T*>(a.data());
    v.ndim = static_cast<int>(a.ndim());
    for (int d = 0; d < v.ndim; ++d) {
        v.shape[d] = a.shape(d);
        v.stride[d] = a.strides(d) / static_cast<i64>(sizeof(T));
    }
    return v;
}

template <class T>
View<T> mutable_view(py::array& a) {
    View<T> v;
    v.data = static_cast<T*>(a.mutable_data());  // pybind11 throws for a read-only array
    v.ndim = static_cast<int>(a.ndim());
    for (int d = 0; d < v.ndim; ++d) {
        v.shape[d] = a.shape(d);
        v.stride[d] = a.strides(d) / static_cast<i64>(sizeof(T));
    }
    return v;
}

/// Below this many elements letting the GIL go and taking it back (about 100 ns) costs more than the kernel.
inline constexpr i64 GIL_FREE_ELEMENTS = 4096;

/// f() without the GIL when the job is large enough to be worth it.
template <class F>
void run(i64 work, F&& f) {
    if (work < GIL_FREE_ELEMENTS) {
        f();
        return;
    }
    py::gil_scoped_release release;
    f();
}

}  // namespace glassgrad::bindings
