-- The roles, users and database of migrations/README.md, with passwords for trying only.
CREATE ROLE calotype_owner NOLOGIN;
CREATE ROLE calotype_app NOLOGIN;
CREATE ROLE calotype_worker NOLOGIN;
CREATE ROLE migrate LOGIN PASSWORD 'for-trying' IN ROLE calotype_owner;
CREATE ROLE app LOGIN PASSWORD 'for-trying' IN ROLE calotype_app;
CREATE ROLE worker LOGIN PASSWORD 'for-trying' IN ROLE calotype_worker;
CREATE DATABASE calotype OWNER migrate;
