//===- Help.h - Texts about the subcommands --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_HELP_H
#define QUENCH_TOOLS_QUENCH_HELP_H

#include "Driver.h"

namespace quench {

/// What 'quench COMMAND --help' prints.
void printCommandHelp(const Command &command, llvm::raw_ostream &out);

/// All commands as docs/CommandLine.md has them.
void printMarkdown(llvm::ArrayRef<const Command *> commands,
                   llvm::raw_ostream &out);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_HELP_H
