//===- QuenchTokenizer.cpp - Tokenizers in Python -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "QuenchModule.h"
#include "quench/Tokenizer/Tokenizer.h"
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace quench;

void quench::python::bindTokenizer(nb::module_ &module) {
  nb::class_<StreamDecoder>(
      module, "StreamDecoder",
      "Decodes ids one by one; each text comes as soon as it is complete.")
      .def(nb::init<const Tokenizer &, bool>(), nb::arg("tokenizer"),
           nb::arg("skip_special") = true)
      .def("push", &StreamDecoder::push, nb::arg("id"))
      .def("finish", &StreamDecoder::finish);

  nb::class_<Tokenizer>(module, "Tokenizer",
                        "A tokenizer as a tokenizer.json describes it.")
      .def(nb::new_([](const std::string &path) {
             return check(Tokenizer::load(path));
           }),
           nb::arg("path"))
      .def(
          "encode",
          [](const Tokenizer &self, const std::string &text, bool addSpecial) {
            return self.encode(text, addSpecial);
          },
          nb::arg("text"), nb::arg("add_special") = true, "The ids of a text.")
      .def(
          "decode",
          [](const Tokenizer &self, const std::vector<int32_t> &ids,
             bool skipSpecial) { return self.decode(ids, skipSpecial); },
          nb::arg("ids"), nb::arg("skip_special") = true,
          "The text of the ids.")
      .def_prop_ro("size", &Tokenizer::vocabSize, "The number of tokens.")
      .def_prop_ro("special_tokens", &Tokenizer::specialTokens,
                   "The ids of all special tokens, ascending.")
      .def(
          "id_of",
          [](const Tokenizer &self, const std::string &token) {
            return self.idOf(token);
          },
          nb::arg("token"), "The id of a token, or None.")
      .def(
          "token_of",
          [](const Tokenizer &self, int32_t id) -> std::optional<std::string> {
            if (auto token = self.tokenOf(id))
              return token->str();
            return std::nullopt;
          },
          nb::arg("id"), "The token of an id, or None.");
}
