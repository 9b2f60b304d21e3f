// The list of binding files.
#pragma once

#include "bindings/array.h"

namespace glassgrad::bindings {

void register_elementwise(py::module_& m);
void register_reduce(py::module_& m);
void register_matmul(py::module_& m);
void register_conv(py::module_& m);
void register_pool(py::module_& m);
void register_index(py::module_& m);
void register_softmax(py::module_& m);
void register_attention(py::module_& m);
void register_norm(py::module_& m);
void register_rnn(py::module_& m);
void register_optim(py::module_& m);
void register_random(py::module_& m);

inline void register_all(py::module_& m) {
    register_elementwise(m);
    register_reduce(m);
    register_matmul(m);
    register_conv(m);
    register_pool(m);
    register_index(m);
    register_softmax(m);
    register_attention(m);
    register_norm(m);
    register_rnn(m);
    register_optim(m);
    register_random(m);
}

}  // namespace glassgrad::bindings
