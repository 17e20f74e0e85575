"""Packed training and evaluation of many adapters on one frozen base. Needs no Ray."""
