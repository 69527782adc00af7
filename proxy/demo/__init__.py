"""Embedded servers, a workload, a link cutter: 'backstay demo'."""
