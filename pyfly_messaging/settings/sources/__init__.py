"""Where values come from: arguments, variables, `.env`, secret files, profiles, YAML.

It depends on `binding` and what that depends on. `gathering` puts all sources in order.
"""
