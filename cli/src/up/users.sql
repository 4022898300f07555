-- The roles and users of migrations/README.md, and the database: whatever is missing of them.
SELECT format('CREATE ROLE %I %s', name, kind)
FROM (VALUES
    (1, 'calotype_owner', 'NOLOGIN'),
    (2, 'calotype_app', 'NOLOGIN'),
    (3, 'calotype_worker', 'NOLOGIN'),
    (4, 'migrate', 'LOGIN IN ROLE calotype_owner'),
    (5, 'app', 'LOGIN IN ROLE calotype_app'),
    (6, 'worker', 'LOGIN IN ROLE calotype_worker')
) AS wanted (number, name, kind)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
ORDER BY number
\gexec
SELECT 'CREATE DATABASE calotype OWNER migrate'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'calotype')
\gexec
