"""Applies `model_info.request_rules`, between the key check and the admission. One module for each rule."""
