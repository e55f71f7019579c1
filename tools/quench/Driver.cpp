//===- Driver.cpp - What the subcommands share ----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "llvm/Support/Errno.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

void quench::wrongNumber(const cl::Option &option, StringRef text,
                         StringRef accepted) {
  errs() << "error: " << (option.ArgStr.size() == 1 ? "-" : "--")
         << option.ArgStr << " '" << text << "': " << accepted
         << " is accepted\n";
}

int quench::fail(Error error) {
  errs() << "error: " << toString(std::move(error)) << '\n';
  return Failed;
}

int quench::wrongUsage(const Command &command, const Twine &message) {
  StringRef name = command.options.getName();
  errs() << "error: " << message << "\nusage: quench " << name << ' '
         << command.usage << "\n'quench " << name << " --help' says more.\n";
  return WrongUsage;
}

Error quench::flushOutput() {
  raw_fd_ostream &out = outs();
  out.flush();
  if (!out.has_error())
    return Error::success();
  std::error_code code = out.error();
  out.clear_error();
  return createStringError(code, "standard output: " + code.message());
}

void quench::printJSON(json::Value value) {
  outs() << formatv("{0:2}\n", value);
}

Error quench::writeFile(StringRef path, StringRef contents) {
  return writeToOutput(path, [&](raw_ostream &out) -> Error {
    out << contents;
    out.flush();
    // A device cannot be replaced, so it is written directly.
    auto &file = static_cast<raw_fd_ostream &>(out);
    if (!file.has_error())
      return Error::success();
    std::error_code code = file.error();
    file.clear_error();
    return createFileError(path, code);
  });
}

std::string quench::formatBytes(double bytes) {
  if (bytes >= 1e9)
    return formatted("%.2f GB", bytes / 1e9);
  if (bytes >= 1e6)
    return formatted("%.1f MB", bytes / 1e6);
  if (bytes >= 1e3)
    return formatted("%.1f kB", bytes / 1e3);
  return formatted("%.0f bytes", bytes);
}

void quench::printTable(raw_ostream &out,
                        ArrayRef<std::vector<std::string>> rows) {
  if (rows.empty())
    return;
  std::vector<size_t> widths(rows.front().size());
  std::vector<bool> right(widths.size());
  for (size_t c = 0; c < widths.size(); ++c)
    right[c] = StringRef(rows.front()[c]).ends_with(" ");
  for (const std::vector<std::string> &row : rows)
    for (size_t c = 0; c < widths.size(); ++c)
      widths[c] = std::max(widths[c], StringRef(row[c]).trim().size());
  for (const std::vector<std::string> &row : rows) {
    std::string line;
    for (size_t c = 0; c < widths.size(); ++c) {
      StringRef text = StringRef(row[c]).trim();
      std::string space(widths[c] - text.size(), ' ');
      line += right[c] ? space + text.str() : text.str() + space;
      line += "  ";
    }
    out << StringRef(line).rtrim() << '\n';
  }
}

Expected<SmallVector<int64_t>> quench::parseShape(StringRef text) {
  SmallVector<int64_t> shape;
  if (text == "scalar")
    return shape;
  SmallVector<StringRef> parts;
  text.split(parts, 'x');
  for (StringRef part : parts) {
    int64_t dim;
    if (part.getAsInteger(10, dim) || dim < 0)
      return createStringError("'" + text +
                               "' is not a shape: sizes joined by x, as in "
                               "1x128, or the word scalar");
    shape.push_back(dim);
  }
  return shape;
}
