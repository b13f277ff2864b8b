"""Changes to the sources of engines, one module each, and what makes them: `python3 -m patches ROOT NAME...`"""
