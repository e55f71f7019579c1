//===- Errors.h - What errors of weights look like --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Errors of a quantized weight have no preferred direction among its outputs,
// but feedback gives them one among its inputs. A few rows' errors e_i say
// which: the error of a row is taken as a random sum of them, as great as that
// row's share.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_BITBUDGET_ERRORS_H
#define QUENCH_LIB_BITBUDGET_ERRORS_H

#include "quench/BitBudget/Budget.h"
#include "quench/Support/HostTensor.h"

namespace quench {

/// Half the mean of <G, E>^2 over errors E as they are at a loss of 1, for the
/// gradient G ([rows][cols], f32) of a weight.
double meanSquareProduct(const HostTensor &gradient, const BudgetLayer &layer);

/// The weight ([rows][cols], f32) with random errors of this loss.
llvm::Expected<HostTensor> withRandomErrors(const HostTensor &weight,
                                            const BudgetLayer &layer,
                                            double loss, uint64_t seed);

} // namespace quench

#endif // QUENCH_LIB_BITBUDGET_ERRORS_H
