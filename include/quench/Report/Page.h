//===- Page.h - The report as an HTML page ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_REPORT_PAGE_H
#define QUENCH_REPORT_PAGE_H

#include "quench/Report/LayerTable.h"

namespace quench {

/// The report on the layers of a model as one HTML page, which is well-formed
/// XML too: plots, totals and a row for each layer. It needs nothing from
/// elsewhere and no scripts, and follows the light or dark appearance of the
/// reader's system. `title` names the model, `facts` are pairs of name and
/// value that stand above the rest.
std::string
reportPage(const LayerTable &table, llvm::StringRef title,
           llvm::ArrayRef<std::pair<std::string, std::string>> facts);

} // namespace quench

#endif // QUENCH_REPORT_PAGE_H
