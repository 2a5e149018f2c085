"""All faults, for the short and for the long form."""

from __future__ import annotations

from . import faults_broker, faults_database, faults_failover, faults_network, faults_relay, faults_signals

FAULTS = [
    *faults_relay.FAULTS,
    *faults_broker.FAULTS,
    *faults_network.FAULTS,
    *faults_database.FAULTS,
    *faults_failover.FAULTS,
    *faults_signals.FAULTS,
]
