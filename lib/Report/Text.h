//===- Text.h - Numbers and names in reports --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_REPORT_TEXT_H
#define QUENCH_LIB_REPORT_TEXT_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <string>

namespace quench {

/// printf of one number into a string.
inline std::string printed(const char *format, double number) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(format, number);
  return text;
}

/// Text as it stands in HTML, SVG and attributes in double quotes. Control
/// characters that XML does not have become spaces.
std::string escaped(llvm::StringRef text);

} // namespace quench

#endif // QUENCH_LIB_REPORT_TEXT_H
