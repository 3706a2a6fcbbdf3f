"""Exported models (`mtdeblur export`) as progressive networks that run in their own runtime."""
