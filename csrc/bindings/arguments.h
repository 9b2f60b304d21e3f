// Words shared by the bindings of layers: dtypes, messages, shapes.
#pragma once

#include <pybind11/stl.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/array.h"

namespace glassgrad::bindings {

inline std::string describe(const std::vector<py::ssize_t>& shape) {
    std::string text = "(";
    for (std::size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
    return text + (shape.size() == 1 ? ",)" : ")");
}
inline std::string describe(const py::array& a) { return describe(shape_of(a)); }

[[noreturn]] inline void fail(const std::string& op, const std::string& what, const std::string& got,
                              const std::string& expected) {
    throw Error(op + ": " + what + ": got " + got + "; expected " + expected);
}
inline void expect_shape(const char* op, const char* name, const py::array& a,
                         const std::vector<py::ssize_t>& expected) {
    if (shape_of(a) != expected) fail(op, std::string("shape of ") + name, describe(a), describe(expected));
}
inline void expect_ndim(const char* op, const char* name, const py::array& a, py::ssize_t ndim) {
    if (a.ndim() != ndim) fail(op, std::string("shape of ") + name, describe(a), std::to_string(ndim) + " axes");
}

using OptionalArray = std::optional<py::array>;

/// A ladder's rungs by name, lowest first.
template <class Rung, std::size_t N>
py::list names_of(const Rung (&rungs)[N]) {
    py::list names;
    for (const Rung& rung : rungs) names.append(rung.name);
    return names;
}
template <class Rung, std::size_t N>
const Rung& rung_of(const char* op, const Rung (&rungs)[N], const std::string& name) {
    for (const Rung& rung : rungs)
        if (name == rung.name) return rung;
    fail(op, "name", name,
         "one of " + py::str(py::str(", ").attr("join")(names_of(rungs))).template cast<std::string>());
}

/// f(T()) when every array given is of T, T being float or double; else not_implemented().
template <class F>
py::object dispatch(std::initializer_list<const py::array*> arrays, F&& f) {
    const auto all = [&]<class T>(T) {
        return std::all_of(arrays.begin(), arrays.end(), [](const py::array* a) { return !a || is_native<T>(*a); });
    };
    if (all(float{})) return f(float{});
    if (all(double{})) return f(double{});
    return not_implemented();
}
inline const py::array* pointer(const OptionalArray& a) { return a ? &*a : nullptr; }

/// A contiguous parameter that may be absent.
template <class T>
struct OptionalContiguous {
    explicit OptionalContiguous(const OptionalArray& a) {
        if (a) array = contiguous<T>(*a);
        data = a ? array.data() : nullptr;
    }
    py::array_t<T> array;
    const T* data;
};

/// a, b: both at least low, and small enough that no index computed from them overflows.
struct Pair {
    i64 a, b;
};
inline Pair pair_of(const char* op, const char* name, std::pair<i64, i64> p, i64 low) {
    constexpr i64 HIGH = i64{1} << 30;
    if (p.first < low || p.second < low || p.first > HIGH || p.second > HIGH)
        fail(op, name, describe({p.first, p.second}), "numbers from " + std::to_string(low) + " to 2**30");
    return {p.first, p.second};
}

}  // namespace glassgrad::bindings
