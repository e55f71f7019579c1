//===- Progress.h - Shows how far long work is ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A bar on a terminal, a line now and then elsewhere:
//
//   quantize [=========>          ] 47%  18 s left  layers.14.mlp.up_proj
//   quantize: 105 of 211 (50%), 9 s
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_SUPPORT_PROGRESS_H
#define QUENCH_SUPPORT_PROGRESS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace quench {

/// Members may be called by several threads.
class Progress {
public:
  /// Writes to `stream`; `columns` is the terminal's width, 0 if it is none.
  Progress(llvm::raw_ostream &stream, unsigned columns);
  /// For standard error, whatever it is.
  Progress();
  ~Progress() { finish(); }

  /// `done` of `total` parts of a step are done (total 0: nobody knows), and
  /// `name` is worked on. Another step's name begins another bar.
  void update(llvm::StringRef step, llvm::StringRef name, int64_t done,
              int64_t total);
  /// Takes the bar away. Needed before anything else is written.
  void finish();

private:
  using Clock = std::chrono::steady_clock;

  void drawBar(llvm::StringRef name, int64_t done, int64_t total);
  void writeLine(int64_t done, int64_t total);
  double secondsSince(Clock::time_point start) const;

  llvm::raw_ostream &stream;
  unsigned columns;
  std::mutex lock;
  std::string step;
  Clock::time_point stepStart, lastShown;
  int64_t lastDone = 0, lastTotal = 0;
  bool shown = false, barDrawn = false;
};

} // namespace quench

#endif // QUENCH_SUPPORT_PROGRESS_H
