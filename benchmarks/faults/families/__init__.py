"""The families of the development set."""

from benchmarks.faults.families.char_gpt import CharGPT
from benchmarks.faults.families.classifier import Classifier
from benchmarks.faults.families.family import Family
from benchmarks.faults.families.lora import Lora
from benchmarks.faults.families.masked_lm import MaskedLM
from benchmarks.faults.families.regression import Regression

DEVELOPMENT: tuple[Family, ...] = (CharGPT(), MaskedLM(), Classifier(), Regression(), Lora())
