// Which of the instruction sets that the kernels are compiled for this CPU runs. Include it only in code compiled for
// the oldest of them, or by a program that exits when the answer is no.
#pragma once

namespace glassgrad {

#if defined(__x86_64__)
// Feature by feature: Clang learned the name "x86-64-v3" in version 18. A CPU with these has the rest of the level.
inline bool cpu_runs_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
inline bool cpu_runs_avx512() {
    return cpu_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace glassgrad
