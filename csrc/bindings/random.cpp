#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

/// A Python int from 0 to 2**64 - 1; `given` is what the message shows instead of another.
std::uint64_t word_of(const char* name, const py::int_& value, const py::int_& given, const char* expected) {
    const auto word = PyLong_AsUnsignedLongLong(value.ptr());
    if (PyErr_Occurred()) {
        PyErr_Clear();
        fail("philox4x32", name, py::str(given), expected);
    }
    return word;
}

py::object numbers(i64 n, const py::int_& seed, const py::int_& offset) {
    if (n < 0) fail("philox4x32", "n", std::to_string(n), "n >= 0");
    const std::uint64_t key = word_of("seed", seed, seed, "0 <= seed < 2**64");
    const auto low = static_cast<std::uint64_t>(PyLong_AsUnsignedLongLongMask(offset.ptr()));
    const std::uint64_t high = word_of("offset", offset >> py::int_(64), offset, "0 <= offset < 2**128");
    auto y = empty<std::uint32_t>({n});
    std::uint32_t* out = y.mutable_data();
    run(n, [&] { philox4x32(out, n, key, {low, high}); });
    return y;
}

}  // namespace

void register_random(py::module_& m) {
    using py::arg;
    m.def("philox4x32", numbers, arg("n"), py::kw_only(), arg("seed"), arg("offset"));
}

}  // namespace glassgrad::bindings
