"""How far the pick of a search can be trusted: measured, worked out, and said in words."""

from autodistil.certificate.agreement import Agreement, kendall, rank_agreement
from autodistil.certificate.assess import Certificate, SubSpaceFindings, Trial, assess
from autodistil.certificate.measured import Measured, read_measured, write_measured
from autodistil.certificate.sample import DEFAULT_SAMPLE, MIN_SAMPLE, sample_students
from autodistil.certificate.words import sentences, verdict

__all__ = [
    "DEFAULT_SAMPLE",
    "MIN_SAMPLE",
    "Agreement",
    "Certificate",
    "Measured",
    "SubSpaceFindings",
    "Trial",
    "assess",
    "kendall",
    "rank_agreement",
    "read_measured",
    "sample_students",
    "sentences",
    "verdict",
    "write_measured",
]
